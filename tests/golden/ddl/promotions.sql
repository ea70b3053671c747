CREATE TABLE IF NOT EXISTS delta.`ROOT/promotions` (
    `decided_at` timestamp NOT NULL COMMENT 'when the decision fell, UTC',
    `model_version` string NOT NULL COMMENT 'the model the decision is about',
    `decision` string NOT NULL COMMENT 'promoted, refused (the champion stays) or rolled_back (an earlier champion reigns again)',
    `kind` string NOT NULL COMMENT 'first (nobody reigned), refit (of the reigning recipe), recipe (another one), by_hand or rollback',
    `before` string NOT NULL COMMENT 'model version of the champion before the decision; ’’ = none',
    `judged` string NOT NULL COMMENT 'what was held against each other: models (on nights after both were trained), recipes (some fitted again at a past cut), fit (figures of the fit) or nothing',
    `nights` int NOT NULL COMMENT 'past nights it was judged on',
    `evidence` string NOT NULL COMMENT 'what the decision rests on, JSON: differences with their 95 % intervals, limits, smoke inference',
    `decided_by` string NOT NULL COMMENT 'night, promote, or the person’s login',
    `reason` string NOT NULL COMMENT 'why, in words'
) USING DELTA COMMENT 'One decision about who is champion: a promotion, a refusal, a way back' TBLPROPERTIES (
    'delta.constraints.decision_known' = 'decision IN (\'promoted\', \'refused\', \'rolled_back\')',
    'delta.constraints.kind_known' = 'kind IN (\'first\', \'refit\', \'recipe\', \'by_hand\', \'rollback\')',
    'delta.constraints.judged_known' = 'judged IN (\'models\', \'recipes\', \'fit\', \'nothing\')');
