-- What a practice said last of a request, as it signed it: other nodes believe nothing else.
ALTER TABLE requests ADD COLUMN proof BLOB NOT NULL DEFAULT x'';
ALTER TABLE requests ADD COLUMN said_at INTEGER NOT NULL DEFAULT 0;  -- when, in ms of its own clock
-- It stands in the proof.
ALTER TABLE requests DROP COLUMN secret;
