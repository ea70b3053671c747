CREATE TABLE IF NOT EXISTS delta.`ROOT/models` (
    `model_version` string NOT NULL COMMENT 'recipe, date and hash: <name>-<trained_through>-<hash>',
    `name` string NOT NULL COMMENT 'name of the recipe (recs.models.NAMES)',
    `recipe` string NOT NULL COMMENT '<name>@<hash of the configuration the model is made from>: equal for refits of one recipe',
    `trained_through` timestamp NOT NULL COMMENT 'nothing at or after this instant is in the model, UTC',
    `params` string NOT NULL COMMENT 'fitted parameters, JSON',
    `metrics` string NOT NULL COMMENT 'figures of the fit (name -> number), JSON',
    `data_versions` string NOT NULL COMMENT 'table versions read, JSON',
    `code_version` string NOT NULL COMMENT 'version of this package, and git commit where known',
    `config_hash` string NOT NULL COMMENT 'hash of the configuration',
    `content_hash` string NOT NULL COMMENT 'SHA-256 over the model’s files',
    `path` string NOT NULL COMMENT 'folder of the model, relative to the root',
    `status` string NOT NULL COMMENT 'champion, candidate or retired',
    `created_at` timestamp NOT NULL COMMENT 'when it was trained, UTC'
) USING DELTA COMMENT 'One trained model' TBLPROPERTIES (
    'delta.constraints.status_known' = 'status IN (\'champion\', \'candidate\', \'retired\')');
