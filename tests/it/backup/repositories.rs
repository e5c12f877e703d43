//! Real repositories of restic, Borg and pgBackRest.
