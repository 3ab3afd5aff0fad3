-- Logs, their files, and the fold that was made of them.
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    origin BLOB NOT NULL,            -- SHA-256 of the origin line
    branch BLOB NOT NULL,            -- empty, or the root hash of a closed branch kept beside the main one
    log_key BLOB NOT NULL,
    size INTEGER NOT NULL,           -- entries that are stored
    frontier BLOB NOT NULL,          -- compact range over them
    head BLOB NOT NULL,              -- newest checkpoint all of whose entries are stored, or empty
    quorum BLOB NOT NULL,            -- newest checkpoint with a quorum, or empty
    pending BLOB NOT NULL,           -- checkpoint that is being mirrored, or empty
    forked INTEGER NOT NULL,         -- 1 once there is evidence
    UNIQUE (origin, branch)
);
CREATE TABLE tiles (
    log INTEGER NOT NULL,
    level INTEGER NOT NULL,          -- 0 to 7; -1 for entry bundles, which are stored when full
    place INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (log, level, place)
);
CREATE TABLE tails (
    log INTEGER NOT NULL,
    place INTEGER NOT NULL,          -- index of an entry that is not yet in a full bundle
    entry BLOB NOT NULL,
    PRIMARY KEY (log, place)
);
CREATE TABLE folds (
    mediator BLOB PRIMARY KEY,
    basis BLOB NOT NULL,             -- what the fold was made from; if it differs, fold anew
    cursors BLOB NOT NULL
);
CREATE TABLE subjects (
    mediator BLOB NOT NULL,
    kind INTEGER NOT NULL,
    subject BLOB NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (mediator, kind, subject)
);
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL
);
CREATE TABLE revocations (
    number INTEGER PRIMARY KEY,      -- in the order of sight, for clients' cursors
    mediator BLOB NOT NULL,
    digest BLOB NOT NULL,            -- SHA-256 of the entry
    origin BLOB NOT NULL,
    place INTEGER NOT NULL,
    UNIQUE (mediator, digest)
);
