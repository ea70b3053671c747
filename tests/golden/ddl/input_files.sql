CREATE TABLE IF NOT EXISTS delta.`ROOT/input_files` (
    `source_file` string NOT NULL COMMENT 'path of the input file (a Delta source: path and table version)',
    `fingerprint` string NOT NULL COMMENT 'size and modification time of the file when it was read',
    `batch_id` bigint NOT NULL COMMENT 'number of the ingest run that brought the row; 1, 2, 3, …'
) USING DELTA COMMENT 'One input file that has been read; a file already here is not read again';
