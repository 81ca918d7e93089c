//! What can be wrong with the bytes of a message. No error quotes contents: they may be card data.

use std::fmt;

/// Which program sends the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Frontend,
    /// The server.
    Backend,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frontend => "client",
            Self::Backend => "server",
        })
    }
}

/// Bytes that are not a message of the protocol, or values that no message can carry.
///
/// After any of these the stream has no known place to go on: the connection is to be closed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// No message of this side begins with this byte.
    #[error(
        "the {side} sent a message of type {tag:#04x}, which PostgreSQL's protocol does not \
         have; close the connection"
    )]
    UnknownType {
        /// Who sent it.
        side: Side,
        /// The first byte.
        tag: u8,
    },
    /// The length does not even cover itself.
    #[error("{what} claims a length of {length} bytes, which is impossible; close the connection")]
    Length {
        /// The message.
        what: What,
        /// The length field.
        length: i32,
    },
    /// The length is over the limit for this type. Found before the body is read.
    #[error("{what} has {length} bytes, and the limit is {limit}; raise the limit or send less")]
    TooLong {
        /// The message.
        what: What,
        /// Bytes of the body.
        length: usize,
        /// The limit for this type.
        limit: usize,
    },
    /// The body ends inside of a field.
    #[error("{what} ends in the middle of its field {field}; close the connection")]
    Truncated {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The body goes on after the last field.
    #[error("{what} has {left} bytes behind its last field; close the connection")]
    Trailing {
        /// The message.
        what: &'static str,
        /// How many.
        left: usize,
    },
    /// A text without the zero byte at its end.
    #[error("the field {field} of {what} has no zero byte at its end; close the connection")]
    Unterminated {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A number that means nothing in this place.
    #[error("the field {field} of {what} is {value}, which means nothing; close the connection")]
    Value {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
    /// To be encoded: a text with a zero byte inside.
    #[error("the field {field} of {what} holds a zero byte, which would end it early; remove it")]
    Nul {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// To be encoded: more than the protocol can count.
    #[error("the field {field} of {what} is too large for the protocol ({size}); make it smaller")]
    Unencodable {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// Bytes or elements.
        size: usize,
    },
}

/// Names a message whose body has not been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The packet that opens a connection, which has no type.
    Startup,
    /// A message by its first byte.
    Tagged(Side, u8),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Startup => f.write_str("the packet that opens the connection"),
            Self::Tagged(side, tag) => {
                write!(f, "the {side}'s message '{}'", char::from(*tag).escape_default())
            }
        }
    }
}
