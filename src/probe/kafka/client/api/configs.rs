//! DescribeConfigs: settings of topics.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::protocol::StrBytes;

use super::{Api, ErrorCode, Malformed, Reader, Request, put};
use crate::probe::Failure;

/// The resource type of topics (`org.apache.kafka.common.config.ConfigResource.Type`).
const TOPIC: i8 = 2;

/// Asks any broker for settings of topics.
#[derive(Clone, Debug)]
pub struct DescribeConfigs {
    /// The topics.
    pub topics: Vec<Arc<str>>,
    /// The names of the settings.
    pub keys: &'static [&'static str],
}

/// The settings of a topic.
#[derive(Debug)]
pub struct TopicConfig {
    /// Its name.
    pub topic: Box<str>,
    /// Why there is no answer.
    pub error: ErrorCode,
    /// Names and values.
    pub values: Vec<(Box<str>, Box<str>)>,
}

impl Request for DescribeConfigs {
    const API: Api = Api::DescribeConfigs;
    type Response = Vec<TopicConfig>;

    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), Failure> {
        let keys: Vec<_> = self.keys.iter().map(|key| StrBytes::from_static_str(key)).collect();
        let resource = |topic: &Arc<str>| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from(topic.to_string()))
                .with_configuration_keys(Some(keys.clone()))
        };
        put(&DescribeConfigsRequest::default().with_resources(self.topics.iter().map(resource).collect()), version, out)
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self::Response, Malformed> {
        r.i32()?;
        r.array(|r| {
            let error = ErrorCode(r.i16()?);
            r.nullable_str()?;
            r.i8()?;
            let topic = r.str()?.into();
            let values = r.array(|r| value(r, version))?;
            r.tags()?;
            Ok(TopicConfig { topic, error, values })
        })
    }

    fn is_refused(response: &Self::Response) -> bool {
        !response.is_empty() && response.iter().all(|config| !config.error.is_ok())
    }
}

fn value(r: &mut Reader<'_>, version: i16) -> Result<(Box<str>, Box<str>), Malformed> {
    let name = r.str()?.into();
    let value = r.nullable_str()?.unwrap_or_default().into();
    r.bool()?;
    r.i8()?;
    r.bool()?;
    r.each(|r| {
        r.str()?;
        r.nullable_str()?;
        r.i8()?;
        r.tags()
    })?;
    if version >= 3 {
        r.i8()?;
        r.nullable_str()?;
    }
    r.tags()?;
    Ok((name, value))
}
