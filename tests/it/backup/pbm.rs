//! Percona Backup for MongoDB's collections in a real mongod.
