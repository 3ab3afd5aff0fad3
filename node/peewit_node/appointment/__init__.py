"""What a node does for appointments: it keeps mailboxes and the queues of its catchment areas, and reads neither."""
