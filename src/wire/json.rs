//! The JSON form of the service's messages: proto3's canonical mapping, by their descriptors.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};

use super::DESCRIPTORS;
use super::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// Reads requests and writes responses as JSON.
#[derive(Clone, Debug)]
pub struct JsonCodec {
    request: MessageDescriptor,
    response: MessageDescriptor,
}

/// Why a JSON text is no request.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// No JSON, an unknown field, or a value of the wrong type; with line and column.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// The descriptors built into this program do not fit its messages.
    #[error("descriptors of this build are unusable: {0}")]
    Descriptors(String),
}

impl JsonCodec {
    /// A codec for the messages in `proto/`.
    ///
    /// # Errors
    /// Descriptors that do not fit: a fault of the build.
    pub fn new() -> Result<Self, JsonError> {
        let pool =
            DescriptorPool::decode(DESCRIPTORS).map_err(|error| JsonError::Descriptors(error.to_string()))?;
        let message = |name: &str| {
            let name = format!("envoy.service.ratelimit.v3.{name}");
            pool.get_message_by_name(&name)
                .ok_or_else(|| JsonError::Descriptors(format!("{name} is missing")))
        };
        Ok(Self {
            request: message("RateLimitRequest")?,
            response: message("RateLimitResponse")?,
        })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// Anything that proto3's JSON mapping does not allow, unknown fields included.
    pub fn decode(&self, text: &[u8]) -> Result<RateLimitRequest, JsonError> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let message = DynamicMessage::deserialize(self.request.clone(), &mut json)?;
        json.end()?;
        message
            .transcode_to()
            .map_err(|error| JsonError::Descriptors(error.to_string()))
    }

    /// Writes a response: camel case, defaults left out.
    ///
    /// # Errors
    /// Descriptors that do not fit: a fault of the build.
    pub fn encode(&self, response: &RateLimitResponse) -> Result<Vec<u8>, JsonError> {
        let message = DynamicMessage::decode(self.response.clone(), response.encode_to_vec().as_slice())
            .map_err(|error| JsonError::Descriptors(error.to_string()))?;
        let mut text = Vec::new();
        let mut json = serde_json::Serializer::new(&mut text);
        message.serialize_with_options(&mut json, &SerializeOptions::default())?;
        Ok(text)
    }
}
