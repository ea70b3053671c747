CREATE TABLE IF NOT EXISTS delta.`ROOT/text_vectors` (
    `model` string NOT NULL COMMENT 'the model, its folder or hub name and how many tokens it reads: `text` of the configuration',
    `text_hash` string NOT NULL COMMENT 'SHA-256 of the text, hex',
    `vector` array<float> NOT NULL COMMENT 'the vector, of unit length; zeros for a text without a word'
) USING DELTA COMMENT 'One text of the catalogue as a language model reads it';
