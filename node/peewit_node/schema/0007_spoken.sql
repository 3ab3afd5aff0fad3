-- What a practice said last of a request, as it signed it: other nodes believe nothing else.
ALTER TABLE requests ADD COLUMN proof BLOB NOT NULL DEFAULT x'';
ALTER TABLE requests ADD COLUMN said_at INTEGER NOT NULL DEFAULT 0;  -- when, in ms of its own clock
-- It stands in the proof.
ALTER TABLE requests DROP COLUMN secret;
-- Changes are numbered on from here, whatever was deleted.
CREATE TABLE queue_floor (id INTEGER PRIMARY KEY, change INTEGER NOT NULL);
INSERT INTO queue_floor SELECT 0, coalesce(max(change), 0) FROM requests;
CREATE VIEW next_change AS SELECT 1 + max(
    (SELECT coalesce(max(change), 0) FROM requests), (SELECT change FROM queue_floor WHERE id = 0)
) AS number;
