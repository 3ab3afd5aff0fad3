-- A request that a practice claimed may be opened again by its own key.
ALTER TABLE requests ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
-- Whether its holder has only drawn it, and made no offer yet.
ALTER TABLE requests ADD COLUMN leased INTEGER NOT NULL DEFAULT 0;
-- Letters of practices to mediators, sealed to each of their devices.
CREATE TABLE letters (
    mediator BLOB NOT NULL,
    digest BLOB NOT NULL,            -- SHA-256 of the copies: the same again is no second one
    body BLOB NOT NULL,
    until INTEGER NOT NULL,          -- POSIX seconds
    PRIMARY KEY (mediator, digest)
);
