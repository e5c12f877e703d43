//! What happens to the books when the daemon is killed, a disk is full, or a record is torn.
