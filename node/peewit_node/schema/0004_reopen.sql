-- A request that a practice claimed may be opened again by its own key.
ALTER TABLE requests ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
-- Whether its holder has only drawn it, and made no offer yet.
ALTER TABLE requests ADD COLUMN leased INTEGER NOT NULL DEFAULT 0;
