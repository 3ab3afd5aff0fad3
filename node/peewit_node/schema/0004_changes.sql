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
-- A claim names a request in whatever area; a practice is asked how much it has drawn; what has ended is looked for.
-- What is drawn is found, and what is held passed over, without reading the requests themselves.
DROP INDEX requests_in_order;
CREATE INDEX requests_in_order ON requests (area, state, rank, round, priority, free_at);
CREATE INDEX requests_by_name ON requests (request);
CREATE INDEX requests_by_round ON requests (round);
CREATE INDEX requests_leased ON requests (area, holder) WHERE leased = 1;
CREATE INDEX mailboxes_by_end ON mailboxes (until);
