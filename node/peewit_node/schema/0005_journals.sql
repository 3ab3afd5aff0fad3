-- Practices' journals: sealed things, written by one device at a time.
CREATE TABLE journals (
    practice BLOB PRIMARY KEY,       -- key id
    term INTEGER NOT NULL,           -- nothing of older ones is written any more
    device BLOB NOT NULL,            -- that has the term
    written INTEGER NOT NULL,        -- term of the last write
    number INTEGER NOT NULL,         -- of the last write
    head BLOB NOT NULL,              -- of the last write
    keepers BLOB NOT NULL,           -- CBOR: the operators whose nodes keep it, and who kept it before
    known INTEGER NOT NULL,          -- a term in which a write was taken by enough, as the last claim said
    seal BLOB NOT NULL,              -- of the practice, over term, device, keepers and known
    size INTEGER NOT NULL,           -- bytes of all rows
    until INTEGER NOT NULL,          -- POSIX seconds
    begun BLOB NOT NULL,             -- head of the write of which parts are here
    parts INTEGER NOT NULL,          -- how many of them
    parts_size INTEGER NOT NULL      -- and their bytes
);
CREATE TABLE journal_rows (
    practice BLOB NOT NULL,
    tag BLOB NOT NULL,
    body BLOB NOT NULL,              -- sealed for the practice's devices
    PRIMARY KEY (practice, tag)
);
-- Of writes that are not whole yet; an empty body: the row goes.
CREATE TABLE journal_parts (
    practice BLOB NOT NULL,
    tag BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (practice, tag)
);
