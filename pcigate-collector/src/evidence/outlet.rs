//! The way of an answer to one client: a bounded channel, and one status that always gets through.
//!
//! A client that does not take anything for [`PATIENCE`] gets what is already on its way and then
//! that status. So nothing here waits for a client for longer, and whoever fills an outlet must
//! not hold anything that other questions need.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

/// Messages on their way to a client.
const IN_FLIGHT: usize = 64;
/// How long a client may take nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where an answer goes in.
#[derive(Debug)]
pub struct Outlet<T> {
    messages: mpsc::Sender<T>,
    end: oneshot::Sender<Status>,
    patience: Duration,
}

/// Where the client takes it out.
#[derive(Debug)]
pub struct Outflow<T> {
    messages: mpsc::Receiver<T>,
    /// Until it has been handed over.
    end: Option<oneshot::Receiver<Status>>,
}

/// An outlet for a client that may take nothing for `patience`.
#[must_use]
pub fn outlet<T>(patience: Duration) -> (Outlet<T>, Outflow<T>) {
    let (messages, outward) = mpsc::channel(IN_FLIGHT);
    let (end, ended) = oneshot::channel();
    (Outlet { messages, end, patience }, Outflow { messages: outward, end: Some(ended) })
}

impl<T> Outlet<T> {
    /// Sends a message.
    ///
    /// # Errors
    /// The client has gone, or has not taken anything for too long.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        match self.messages.send_timeout(message, self.patience).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => {
                Err(Status::cancelled("the client has gone"))
            }
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Status::aborted(format!(
                "the client read nothing of the answer for {} seconds; ask again, and read \
                 faster or ask for less",
                self.patience.as_secs()
            ))),
        }
    }

    /// Waits until the client has gone.
    pub async fn gone(&self) {
        self.messages.closed().await;
    }

    /// Ends the answer, with a status when it is an error.
    pub fn close(self, answered: Result<(), Status>) {
        if let Err(status) = answered {
            // Nobody to tell: the client has gone.
            drop(self.end.send(status));
        }
    }
}

impl<T> Stream for Outflow<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = ready!(self.messages.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        // The status was sent before the channel closed, or never will be.
        let Some(end) = self.end.as_mut() else { return Poll::Ready(None) };
        let ended = ready!(pin!(end).poll(context));
        self.end = None;
        Poll::Ready(ended.ok().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_ended_with_a_sentence_after_what_it_had_coming() {
        let (outlet, outflow) = outlet(Duration::from_millis(1));
        let mut sent = 0;
        let status = loop {
            match outlet.send(sent).await {
                Ok(()) => sent += 1,
                Err(status) => break status,
            }
        };
        outlet.close(Err(status));
        let all: Vec<_> = outflow.collect().await;
        let (last, before) = all.split_last().unwrap();
        assert_eq!(before.len(), IN_FLIGHT);
        assert!(before.iter().zip(0..).all(|(got, sent)| matches!(got, Ok(got) if *got == sent)));
        assert!(last.as_ref().unwrap_err().message().contains("read nothing of the answer"));
    }

    #[tokio::test]
    async fn an_answer_ends_without_status_and_a_client_that_left_is_noticed() {
        let (outlet, outflow) = super::outlet(PATIENCE);
        outlet.send(1).await.unwrap();
        outlet.close(Ok(()));
        let all: Vec<_> = outflow.map(Result::unwrap).collect().await;
        assert_eq!(all, [1]);
        let (outlet, outflow) = super::outlet(PATIENCE);
        drop(outflow);
        outlet.gone().await;
        assert!(outlet.send(1).await.is_err());
    }
}
