-- Mailboxes, and the queues of catchment areas.
CREATE TABLE mailboxes (
    address BLOB PRIMARY KEY,        -- SHA-256 of the public key
    public BLOB NOT NULL,
    until INTEGER NOT NULL,          -- POSIX seconds
    practices INTEGER NOT NULL       -- 1: practices that are admitted may write
);
CREATE TABLE messages (
    number INTEGER PRIMARY KEY,
    address BLOB NOT NULL,
    writer BLOB NOT NULL,            -- key id
    digest BLOB NOT NULL,            -- SHA-256 of the message: the same again is no second one
    body BLOB NOT NULL,
    UNIQUE (address, digest)
);
CREATE TABLE requests (
    area BLOB NOT NULL,              -- name of a catchment area of ours
    request BLOB NOT NULL,           -- H
    rank INTEGER NOT NULL,           -- of its group in the area: lower ones are served first
    round INTEGER NOT NULL,
    priority BLOB NOT NULL,
    version INTEGER NOT NULL,        -- a later one by the same key replaces it
    body BLOB NOT NULL,              -- as its user signed it
    state INTEGER NOT NULL,          -- 0 waiting, 1 withdrawn, 2 claimed
    secret BLOB NOT NULL,            -- of the claim, once there is one
    offers INTEGER NOT NULL,         -- that are out
    free_at INTEGER NOT NULL,        -- POSIX seconds; leased or parked before
    holder BLOB NOT NULL,            -- key id of the practice that has the lease
    misses INTEGER NOT NULL,         -- offers that nobody answered
    change INTEGER NOT NULL UNIQUE,  -- grows with every change, for other nodes
    PRIMARY KEY (area, request)
);
CREATE INDEX requests_in_order ON requests (area, state, rank, round, priority);
