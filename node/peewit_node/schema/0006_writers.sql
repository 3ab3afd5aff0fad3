-- An index that tells how many messages a mailbox and a writer have, without a look at the messages.
ALTER TABLE messages RENAME TO messages_before;
CREATE TABLE messages (
    number INTEGER PRIMARY KEY,
    address BLOB NOT NULL,
    writer BLOB NOT NULL,            -- key id
    digest BLOB NOT NULL,            -- SHA-256 of the message: the same again is no second one
    body BLOB NOT NULL,
    UNIQUE (address, writer, digest)
);
INSERT INTO messages SELECT number, address, writer, digest, body FROM messages_before ORDER BY number;
DROP TABLE messages_before;
