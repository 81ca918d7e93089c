//! How a verb ends: with an answer, or with a failure that says what to do. Both know their exit
//! code.

use std::error::Error;
use std::io::{self, Write};

use tonic::Code;

use crate::table::plain;

/// What a verb found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; where a question was asked, the answer is yes.
    Yes,
    /// The answer is no, or something was found that should not be there.
    No,
}

impl Answer {
    /// 0 or 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
        }
    }
}

/// What lies behind a failure.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a verb could not be carried out. Each sentence names the value and the remedy.
#[derive(Debug)]
pub enum Failure {
    /// Exit 2: an argument, a file or the input is not what it must be.
    Input {
        /// What is wrong and what to do.
        sentence: String,
        /// What the system or a parser says.
        cause: Option<Cause>,
    },
    /// Exit 3: no answer from the collector.
    Unreachable {
        /// What is wrong and what to do.
        sentence: String,
        /// What the transport says.
        cause: Option<Cause>,
    },
    /// The output cannot be written. Exit 0 where nobody reads it any more, otherwise 2.
    Output(io::Error),
}

impl Failure {
    /// Bad input without anything behind it.
    pub fn input(sentence: impl Into<String>) -> Self {
        Self::Input { sentence: sentence.into(), cause: None }
    }

    /// Bad input, and what says so.
    pub fn because(sentence: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Input { sentence: sentence.into(), cause: Some(cause.into()) }
    }

    /// What the collector at `url` answered instead of an answer. Its words may quote a record.
    pub fn from_status(url: &str, status: tonic::Status) -> Self {
        let said = plain(status.message());
        match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::OutOfRange => {
                Self::input(format!("the collector does not accept this: {said}"))
            }
            Code::ResourceExhausted | Code::DeadlineExceeded => {
                Self::input(format!("the collector ended this: {said}"))
            }
            Code::PermissionDenied | Code::Unauthenticated => Self::Unreachable {
                sentence: format!(
                    "the collector at {url} does not answer to this certificate: \
                     --tls-dir must hold the certificate of a person (…/person/NAME)"
                ),
                cause: Some(status.into()),
            },
            _ => Self::Unreachable {
                sentence: format!(
                    "the collector at {url} stopped answering: ask again, or look into its log"
                ),
                cause: Some(status.into()),
            },
        }
    }

    /// 2 or 3; 0 for output nobody reads.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Input { .. } | Self::Output(_) => 2,
            Self::Unreachable { .. } => 3,
        }
    }

    /// Writes the sentence to stderr, and what lies behind it, one line each.
    pub fn report(&self) {
        let (sentence, mut cause) = match self {
            Self::Input { sentence, cause } | Self::Unreachable { sentence, cause } => {
                (sentence.clone(), cause.as_deref().map(|cause| cause as &dyn Error))
            }
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
            Self::Output(error) => {
                ("cannot write the output: look where stdout goes".to_owned(), Some(error as _))
            }
        };
        let mut text = format!("pcigate: {sentence}\n");
        while let Some(error) = cause {
            text.push_str(&format!("  because: {error}\n"));
            cause = error.source();
        }
        // Nobody is left to be told when stderr is gone too.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// A remark on stderr, beside the answer.
pub fn remark(text: &str) {
    // Remarks are no part of the answer: it stands without them.
    let _ = writeln!(io::stderr(), "pcigate: {text}");
}
