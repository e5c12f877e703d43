//! The probe types of Kafka against real brokers.

mod requests;
