//! The newest versions of messages of which `kafka-protocol` has only the older ones. Field for field as in the schemas of
//! Kafka 4.3; they are read into that crate's structs and written from them, so that a handler sees one type for all versions.
//!
//! Left out of the structs, because they have no place for them: whether a log directory is cordoned (here it never is), and
//! what AddRaftVoter waits for. Every version here is flexible.

use bytes::{BufMut, Bytes};
use kafka_protocol::protocol::StrBytes;

use super::apis::{ApiKey, Request, Response};
use super::messages::add_raft_voter_request::Listener;
use super::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use super::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use super::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use super::messages::{
    AddRaftVoterRequest, DescribeLogDirsResponse, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use super::pieces::PieceWriter;
use super::wire::{CodecError, Reader, Writer};

/// The version by which `kafka-protocol` knows the layout of a request, where that is not its own.
pub(super) const fn request_layout(key: ApiKey, version: i16) -> i16 {
    match (key, version) {
        (ApiKey::ListOffsets, 11) => 10, // one more timestamp has a meaning
        (ApiKey::DescribeLogDirs, 5) => 4,
        _ => version,
    }
}

/// As [`request_layout`], of a response.
pub(super) const fn response_layout(key: ApiKey, version: i16) -> i16 {
    match (key, version) {
        (ApiKey::ListOffsets, 11) => 10,
        (ApiKey::AddRaftVoter, 1) => 0,
        _ => version,
    }
}

/// Writes a request that `kafka-protocol` cannot write in this version; `None` for the others.
pub(super) fn write_request(request: &Request, out: &mut PieceWriter, version: i16) -> Option<Result<(), CodecError>> {
    let mut writer = Writer { out, flexible: true, message: request.api_key().name() };
    match request {
        Request::OffsetCommit(body) if version == 10 => Some(write_offset_commit(body, &mut writer)),
        Request::OffsetFetch(body) if version == 10 => Some(write_offset_fetch(body, &mut writer)),
        Request::AddRaftVoter(body) if version == 1 => Some(write_add_voter(body, &mut writer)),
        _ => None,
    }
}

/// Reads a request that `kafka-protocol` cannot read in this version; `None` for the others.
pub(super) fn read_request(key: ApiKey, version: i16, bytes: &Bytes) -> Option<Result<Request, CodecError>> {
    let reader = || Reader::new(bytes.clone(), true);
    match (key, version) {
        (ApiKey::OffsetCommit, 10) => Some(read_offset_commit(reader()).map(Request::OffsetCommit)),
        (ApiKey::OffsetFetch, 10) => Some(read_offset_fetch(reader()).map(Request::OffsetFetch)),
        (ApiKey::AddRaftVoter, 1) => Some(read_add_voter(reader()).map(Request::AddRaftVoter)),
        _ => None,
    }
}

/// As [`write_request`], of a response.
pub(super) fn write_response(
    response: &Response,
    out: &mut PieceWriter,
    version: i16,
) -> Option<Result<(), CodecError>> {
    match response {
        Response::DescribeLogDirs(body) if version == 5 => {
            Some(write_log_dirs(body, &mut Writer { out, flexible: true, message: "DescribeLogDirs" }))
        }
        _ => None,
    }
}

/// As [`read_request`], of a response.
pub(super) fn read_response(key: ApiKey, version: i16, bytes: &Bytes) -> Option<Result<Response, CodecError>> {
    match (key, version) {
        (ApiKey::DescribeLogDirs, 5) => {
            Some(read_log_dirs(Reader::new(bytes.clone(), true)).map(Response::DescribeLogDirs))
        }
        _ => None,
    }
}

fn nullable_text(reader: &mut Reader, field: &'static str) -> Result<Option<StrBytes>, CodecError> {
    reader.nullable_str(field, |text| StrBytes::from_string(text.to_owned()))
}

fn text(reader: &mut Reader, field: &'static str) -> Result<StrBytes, CodecError> {
    nullable_text(reader, field)?.ok_or_else(|| CodecError::invalid(field, "null"))
}

fn indexes(reader: &mut Reader) -> Result<Vec<i32>, CodecError> {
    reader.array("partition indexes", |reader| reader.i32("partition index"))
}

fn put_indexes(writer: &mut Writer<'_>, indexes: &[i32]) -> Result<(), CodecError> {
    writer.array(Some(indexes), |writer, index| {
        writer.buffer().put_i32(*index);
        Ok(())
    })
}

fn read_offset_commit(mut reader: Reader) -> Result<OffsetCommitRequest, CodecError> {
    let mut request = OffsetCommitRequest::default();
    request.group_id = GroupId(text(&mut reader, "group id")?);
    request.generation_id_or_member_epoch = reader.i32("generation or member epoch")?;
    request.member_id = text(&mut reader, "member id")?;
    request.group_instance_id = nullable_text(&mut reader, "group instance id")?;
    request.topics = reader.array("topics", |reader| {
        let mut topic = OffsetCommitRequestTopic::default();
        topic.topic_id = reader.uuid("topic id")?;
        topic.partitions = reader.array("partitions", |reader| {
            let mut partition = OffsetCommitRequestPartition::default();
            partition.partition_index = reader.i32("partition index")?;
            partition.committed_offset = reader.i64("committed offset")?;
            partition.committed_leader_epoch = reader.i32("committed leader epoch")?;
            partition.committed_metadata = nullable_text(reader, "committed metadata")?;
            reader.skip_tagged_fields()?;
            Ok(partition)
        })?;
        reader.skip_tagged_fields()?;
        Ok(topic)
    })?;
    reader.skip_tagged_fields()?;
    Ok(request)
}

fn write_offset_commit(request: &OffsetCommitRequest, writer: &mut Writer<'_>) -> Result<(), CodecError> {
    writer.string(Some(&request.group_id))?;
    writer.buffer().put_i32(request.generation_id_or_member_epoch);
    writer.string(Some(&request.member_id))?;
    writer.string(request.group_instance_id.as_deref())?;
    writer.array(Some(&request.topics), |writer, topic| {
        writer.buffer().put_slice(topic.topic_id.as_bytes());
        writer.array(Some(&topic.partitions), |writer, partition| {
            writer.buffer().put_i32(partition.partition_index);
            writer.buffer().put_i64(partition.committed_offset);
            writer.buffer().put_i32(partition.committed_leader_epoch);
            writer.string(partition.committed_metadata.as_deref())?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        writer.tagged_fields(&[]);
        Ok(())
    })?;
    writer.tagged_fields(&[]);
    Ok(())
}

fn read_offset_fetch(mut reader: Reader) -> Result<OffsetFetchRequest, CodecError> {
    let mut request = OffsetFetchRequest::default();
    request.groups = reader.array("groups", |reader| {
        let mut group = OffsetFetchRequestGroup::default();
        group.group_id = GroupId(text(reader, "group id")?);
        group.member_id = nullable_text(reader, "member id")?;
        group.member_epoch = reader.i32("member epoch")?;
        group.topics = reader.nullable_array("topics", |reader| {
            let mut topic = OffsetFetchRequestTopics::default();
            topic.topic_id = reader.uuid("topic id")?;
            topic.partition_indexes = indexes(reader)?;
            reader.skip_tagged_fields()?;
            Ok(topic)
        })?;
        reader.skip_tagged_fields()?;
        Ok(group)
    })?;
    request.require_stable = reader.i8("require stable")? != 0;
    reader.skip_tagged_fields()?;
    Ok(request)
}

fn write_offset_fetch(request: &OffsetFetchRequest, writer: &mut Writer<'_>) -> Result<(), CodecError> {
    writer.array(Some(&request.groups), |writer, group| {
        writer.string(Some(&group.group_id))?;
        writer.string(group.member_id.as_deref())?;
        writer.buffer().put_i32(group.member_epoch);
        writer.array(group.topics.as_deref(), |writer, topic| {
            writer.buffer().put_slice(topic.topic_id.as_bytes());
            put_indexes(writer, &topic.partition_indexes)?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        writer.tagged_fields(&[]);
        Ok(())
    })?;
    writer.buffer().put_u8(request.require_stable.into());
    writer.tagged_fields(&[]);
    Ok(())
}

fn read_add_voter(mut reader: Reader) -> Result<AddRaftVoterRequest, CodecError> {
    let mut request = AddRaftVoterRequest::default();
    request.cluster_id = nullable_text(&mut reader, "cluster id")?;
    request.timeout_ms = reader.i32("timeout")?;
    request.voter_id = reader.i32("voter id")?;
    request.voter_directory_id = reader.uuid("voter directory id")?;
    request.listeners = reader.array("listeners", |reader| {
        let mut listener = Listener::default();
        listener.name = text(reader, "listener name")?;
        listener.host = text(reader, "listener host")?;
        listener.port = reader.i16("listener port")?.cast_unsigned();
        reader.skip_tagged_fields()?;
        Ok(listener)
    })?;
    reader.i8("ack when committed")?;
    reader.skip_tagged_fields()?;
    Ok(request)
}

fn write_add_voter(request: &AddRaftVoterRequest, writer: &mut Writer<'_>) -> Result<(), CodecError> {
    writer.string(request.cluster_id.as_deref())?;
    writer.buffer().put_i32(request.timeout_ms);
    writer.buffer().put_i32(request.voter_id);
    writer.buffer().put_slice(request.voter_directory_id.as_bytes());
    writer.array(Some(&request.listeners), |writer, listener| {
        writer.string(Some(&listener.name))?;
        writer.string(Some(&listener.host))?;
        writer.buffer().put_u16(listener.port);
        writer.tagged_fields(&[]);
        Ok(())
    })?;
    writer.buffer().put_u8(1); // answered once committed, which is Kafka's default
    writer.tagged_fields(&[]);
    Ok(())
}

fn read_log_dirs(mut reader: Reader) -> Result<DescribeLogDirsResponse, CodecError> {
    let mut response = DescribeLogDirsResponse::default();
    response.throttle_time_ms = reader.i32("throttle time")?;
    response.error_code = reader.i16("error code")?;
    response.results = reader.array("results", |reader| {
        let mut result = DescribeLogDirsResult::default();
        result.error_code = reader.i16("error code")?;
        result.log_dir = text(reader, "log directory")?;
        result.topics = reader.array("topics", |reader| {
            let mut topic = DescribeLogDirsTopic::default();
            topic.name = TopicName(text(reader, "topic name")?);
            topic.partitions = reader.array("partitions", |reader| {
                let mut partition = DescribeLogDirsPartition::default();
                partition.partition_index = reader.i32("partition index")?;
                partition.partition_size = reader.i64("partition size")?;
                partition.offset_lag = reader.i64("offset lag")?;
                partition.is_future_key = reader.i8("is future key")? != 0;
                reader.skip_tagged_fields()?;
                Ok(partition)
            })?;
            reader.skip_tagged_fields()?;
            Ok(topic)
        })?;
        result.total_bytes = reader.i64("total bytes")?;
        result.usable_bytes = reader.i64("usable bytes")?;
        reader.i8("is cordoned")?;
        reader.skip_tagged_fields()?;
        Ok(result)
    })?;
    reader.skip_tagged_fields()?;
    Ok(response)
}

fn write_log_dirs(response: &DescribeLogDirsResponse, writer: &mut Writer<'_>) -> Result<(), CodecError> {
    writer.buffer().put_i32(response.throttle_time_ms);
    writer.buffer().put_i16(response.error_code);
    writer.array(Some(&response.results), |writer, result| {
        writer.buffer().put_i16(result.error_code);
        writer.string(Some(&result.log_dir))?;
        writer.array(Some(&result.topics), |writer, topic| {
            writer.string(Some(&topic.name))?;
            writer.array(Some(&topic.partitions), |writer, partition| {
                writer.buffer().put_i32(partition.partition_index);
                writer.buffer().put_i64(partition.partition_size);
                writer.buffer().put_i64(partition.offset_lag);
                writer.buffer().put_u8(partition.is_future_key.into());
                writer.tagged_fields(&[]);
                Ok(())
            })?;
            writer.tagged_fields(&[]);
            Ok(())
        })?;
        writer.buffer().put_i64(result.total_bytes);
        writer.buffer().put_i64(result.usable_bytes);
        writer.buffer().put_u8(0); // not cordoned
        writer.tagged_fields(&[]);
        Ok(())
    })?;
    writer.tagged_fields(&[]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka's own code wrote: 4.3.1, with the topic id 0102..10.
    const REQUESTS: &[(ApiKey, i16, &str)] = &[
        (
            ApiKey::OffsetCommit,
            10,
            "0862696c6c696e6700000007046d2d310269020102030405060708090a0b0c0d0e0f10030000000300000000000000630000000402780000\
             0000040000000000000000ffffffff00000000",
        ),
        (
            ApiKey::OffsetFetch,
            10,
            "030862696c6c696e67046d2d3100000007020102030405060708090a0b0c0d0e0f10030000000000000005000004616c6c00ffffffff0000\
             0100",
        ),
        (ApiKey::DescribeLogDirs, 5, "0000"),
        (
            ApiKey::AddRaftVoter,
            1,
            "026300007530000000020102030405060708090a0b0c0d0e0f10020b434f4e54524f4c4c455202689c40000100",
        ),
        (ApiKey::ListOffsets, 11, "ffffffff0102076f7264657273020000000100000003fffffffffffffffa0000000001f400"),
    ];
    const RESPONSES: &[(ApiKey, i16, &str)] = &[
        (ApiKey::OffsetCommit, 10, "00000005020102030405060708090a0b0c0d0e0f1002000000030064000000"),
        (
            ApiKey::OffsetFetch,
            10,
            "00000000020862696c6c696e67020102030405060708090a0b0c0d0e0f100200000005000000000000000c0000000202780000000000000000",
        ),
        (
            ApiKey::DescribeLogDirs,
            5,
            "000000010000020000062f6461746102076f72646572730200000002000000000000004d0000000000000006010000000000000000\
             03e80000000000000384000000",
        ),
        (ApiKey::AddRaftVoter, 1, "000000000023036e6f00"),
    ];

    fn bytes(hex: &str) -> Bytes {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    fn written(write: impl FnOnce(&mut PieceWriter) -> Result<(), CodecError>) -> Bytes {
        let mut out = PieceWriter::default();
        write(&mut out).expect("encodable");
        out.finish().to_bytes().expect("in memory")
    }

    #[test]
    fn requests_of_kafkas_own_code_are_read_and_written_to_the_byte() {
        for (key, version, hex) in REQUESTS {
            let whole = bytes(hex);
            let read = Request::decode_body(*key, *version, whole.clone()).expect("readable");
            assert_eq!(written(|out| read.encode_body(out, *version)), whole, "{key}");
            for end in 0..whole.len() {
                assert!(Request::decode_body(*key, *version, whole.slice(..end)).is_err(), "{key} cut at {end}");
            }
        }
    }

    #[test]
    fn responses_of_kafkas_own_code_are_read_and_written_to_the_byte() {
        for (key, version, hex) in RESPONSES {
            let whole = bytes(hex);
            let read = Response::decode_body(*key, *version, whole.clone()).expect("readable");
            assert_eq!(written(|out| read.encode_body(out, *version)), whole, "{key}");
            for end in 0..whole.len() {
                assert!(Response::decode_body(*key, *version, whole.slice(..end)).is_err(), "{key} cut at {end}");
            }
        }
    }

    #[test]
    fn what_was_read_is_where_it_belongs() {
        let request = |at: usize| {
            let (key, version, hex) = REQUESTS[at];
            Request::decode_body(key, version, bytes(hex)).expect("readable")
        };
        let id = uuid::Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let Request::OffsetCommit(commit) = request(0) else { panic!() };
        assert_eq!(
            (&**commit.group_id, commit.generation_id_or_member_epoch, &*commit.member_id),
            ("billing", 7, "m-1")
        );
        let [one, two] = &*commit.topics[0].partitions else { panic!() };
        assert_eq!((commit.topics[0].topic_id, one.committed_offset, one.committed_leader_epoch), (id, 99, 4));
        assert_eq!((one.committed_metadata.as_deref(), two.committed_metadata.as_deref()), (Some("x"), None));
        let Request::OffsetFetch(fetch) = request(1) else { panic!() };
        let [billing, all] = &*fetch.groups else { panic!() };
        assert_eq!((billing.topics.as_ref().map(|topics| topics[0].topic_id), &all.topics), (Some(id), &None));
        assert!(fetch.require_stable);
        let Request::AddRaftVoter(voter) = request(3) else { panic!() };
        assert_eq!((&*voter.listeners[0].name, voter.listeners[0].port), ("CONTROLLER", 40_000));
    }
}
