//! Fetch: one record, for its timestamp.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// Asks a leader for the batch that holds an offset. One partition a request: a broker sends at least one whole batch of the
/// first partition, however few bytes were asked for, and none of the others.
#[derive(Clone, Debug)]
pub struct FetchOne {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The leadership that we know of; -1 does not compare.
    pub leader_epoch: i32,
    /// The offset.
    pub offset: i64,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Why there is none.
    pub error: ErrorCode,
    /// The batches, as they are in the log.
    pub records: Box<[u8]>,
}

impl Request for FetchOne {
    const API: Api = Api::Fetch;
    type Response = Fetched;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let epoch = if version >= 9 { self.leader_epoch } else { -1 };
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_current_leader_epoch(epoch)
            .with_fetch_offset(self.offset)
            .with_partition_max_bytes(1);
        let topic = FetchTopic::default()
            .with_topic(StrBytes::from(self.topic.to_string()).into())
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(0)
            .with_min_bytes(0)
            .with_max_bytes(1)
            // No session: the request says all there is to say.
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        put(&request, version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Fetched, Malformed> {
        let mut fetched = Fetched { error: ErrorCode::NONE, records: Box::default() };
        r.i32()?;
        if version >= 7 {
            fetched.error = ErrorCode(r.i16()?);
            r.i32()?;
        }
        r.each(|r| {
            r.str()?;
            r.each(|r| partition(r, version, &mut fetched))?;
            r.tags()
        })?;
        Ok(fetched)
    }
}

fn partition(r: &mut Reader<'_>, version: i16, fetched: &mut Fetched) -> Result<(), Malformed> {
    r.i32()?;
    let error = ErrorCode(r.i16()?);
    r.i64()?;
    r.i64()?;
    if version >= 5 {
        r.i64()?;
    }
    r.each(|r| {
        r.i64()?;
        r.i64()?;
        r.tags()
    })?;
    if version >= 11 {
        r.i32()?;
    }
    fetched.records = r.bytes()?.into();
    if !error.is_ok() {
        fetched.error = error;
    }
    r.tags()
}

/// The only format of batches that is read: that of Kafka 0.11 and later.
const MAGIC: i8 = 2;
/// Bits of a batch's attributes: how it is compressed, and whether the broker stamped it.
const COMPRESSION: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
/// The timestamps of a compressed batch may differ by so much, in milliseconds, for the youngest to stand for all.
const SPREAD: i64 = 1000;

/// The timestamp of the first record at or after `offset`, in milliseconds. None if it cannot be told: the batch is of an old
/// format, is cut off, or is compressed and spans more than a second.
///
/// The format is that of `DefaultRecordBatch` and `DefaultRecord` of Apache Kafka.
pub fn first_timestamp(batches: &[u8], offset: i64) -> Option<i64> {
    let mut rest = Reader::new(batches, false);
    // Brokers begin with the batch that holds the offset, but a batch that compaction emptied may come first.
    while rest.remaining() > 0 {
        let base = rest.i64().ok()?;
        let length = usize::try_from(rest.i32().ok()?).ok()?;
        let batch = rest.take(length.min(rest.remaining())).ok()?;
        match in_batch(&mut Reader::new(batch, false), base, offset) {
            Ok(Found::At(timestamp)) => return Some(timestamp),
            Ok(Found::Later) => {}
            Ok(Found::Unknown) | Err(Malformed(_)) => return None,
        }
    }
    None
}

/// What a batch tells of an offset.
enum Found {
    At(i64),
    /// All its records are before the offset.
    Later,
    Unknown,
}

fn in_batch(r: &mut Reader<'_>, base: i64, offset: i64) -> Result<Found, Malformed> {
    r.i32()?;
    if r.i8()? != MAGIC {
        return Ok(Found::Unknown);
    }
    r.i32()?;
    let attributes = r.i16()?;
    let last_delta = r.i32()?;
    let (first, last) = (r.i64()?, r.i64()?);
    if base.saturating_add(last_delta.into()) < offset {
        return Ok(Found::Later);
    }
    if attributes & LOG_APPEND_TIME != 0 {
        return Ok(Found::At(last));
    }
    if attributes & COMPRESSION != 0 {
        let is_narrow = last.saturating_sub(first) <= SPREAD;
        return Ok(if is_narrow { Found::At(last) } else { Found::Unknown });
    }
    // Producer id, epoch and first sequence.
    r.take(14)?;
    for _ in 0..r.i32()? {
        let length = usize::try_from(varint(r)?).map_err(|_| Malformed("a record's length is negative"))?;
        let mut record = Reader::new(r.take(length)?, false);
        record.i8()?;
        let timestamp = first.saturating_add(varint(&mut record)?);
        if base.saturating_add(varint(&mut record)?) >= offset {
            return Ok(Found::At(timestamp));
        }
    }
    Ok(Found::Later)
}

/// A signed number of one to ten bytes, seven bits in each, with the sign in the last bit.
fn varint(r: &mut Reader<'_>) -> Result<i64, Malformed> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = r.i8()?.to_be_bytes()[0];
        // Of the tenth byte only the lowest bit has a place.
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(Malformed("a number has too many bytes"))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::indexmap::IndexMap;
    use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

    use super::*;

    fn batch(offset: i64, timestamps: &[i64]) -> Vec<u8> {
        let record = |(index, timestamp): (usize, &i64)| Record {
            delete_horizon: false,
            transactional: false,
            delete_horizon: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: offset + i64::try_from(index).unwrap(),
            sequence: i32::try_from(index).unwrap(),
            timestamp: *timestamp,
            key: None,
            value: Some(bytes::Bytes::from_static(b"value")),
            headers: IndexMap::default(),
        };
        let records: Vec<_> = timestamps.iter().enumerate().map(record).collect();
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        out.to_vec()
    }

    #[test]
    fn the_record_at_an_offset_is_found() {
        let mut log = batch(100, &[5_000, 4_000, 70_000]);
        log.extend(batch(103, &[80_000]));
        for (offset, timestamp) in [
            (90, Some(5_000)),
            (100, Some(5_000)),
            (101, Some(4_000)),
            (102, Some(70_000)),
            (103, Some(80_000)),
            (104, None),
        ] {
            assert_eq!(first_timestamp(&log, offset), timestamp, "{offset}");
        }
        for end in 0..log.len() {
            first_timestamp(&log[..end], 103);
        }
    }

    #[test]
    fn compressed_batches_are_believed_only_if_narrow() {
        // The attributes are after base offset, length, epoch, magic and checksum.
        let compressed = |timestamps| {
            let mut log = batch(0, timestamps);
            log[22] |= 4;
            log
        };
        assert_eq!(first_timestamp(&compressed(&[1_000, 1_900]), 0), Some(1_900));
        assert_eq!(first_timestamp(&compressed(&[1_000, 9_000]), 0), None);
        let mut appended = batch(0, &[1_000, 9_000]);
        appended[22] |= 8;
        assert_eq!(first_timestamp(&appended, 0), Some(9_000));
    }
}
