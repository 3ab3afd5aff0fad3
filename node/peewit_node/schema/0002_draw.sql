-- Keys of rounds, and who was admitted to them.
CREATE TABLE token_keys (
    round INTEGER NOT NULL,
    grp TEXT NOT NULL,               -- a group, or empty for everybody
    p BLOB NOT NULL,                 -- the primes, big-endian
    q BLOB NOT NULL,
    signatures INTEGER NOT NULL,     -- so many were given
    told INTEGER NOT NULL,           -- the number that our log last said
    PRIMARY KEY (round, grp)
);
CREATE TABLE draw_keys (
    round INTEGER NOT NULL,
    committee BLOB NOT NULL,
    place INTEGER NOT NULL,
    public BLOB NOT NULL,
    seed BLOB NOT NULL,
    PRIMARY KEY (round, committee, place, public)
);
CREATE TABLE codes (
    code BLOB PRIMARY KEY,           -- what a signup code is at this node
    grp TEXT NOT NULL,
    spent BLOB NOT NULL              -- SHA-256 of the round and blinded message it was spent for, or empty
);
CREATE TABLE admitted (
    purpose BLOB PRIMARY KEY,        -- without codes: SHA-256 of the round and blinded message, so that it counts once
    round INTEGER NOT NULL
);
