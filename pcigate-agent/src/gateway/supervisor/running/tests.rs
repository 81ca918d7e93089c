//! Tests of the agent's side against processes that say what no gateway says.

use std::os::fd::AsFd;

use super::*;
use crate::gateway::{link, wire::told};

/// The agent's side and a process that is a test.
fn pair() -> (Arc<Running>, Link) {
    let (ours, theirs) = link::pair().unwrap();
    (Arc::new(Running::new(Link::new(ours).unwrap())), Link::new(theirs).unwrap())
}

async fn say(process: &Link, mut frame: FromGateway) {
    process.send(&frame.encode().unwrap(), None).await.unwrap();
}

async fn hear(process: &Link) -> (ToGateway, bool) {
    let mut buffer = vec![0; FRAME_MAX];
    let (length, passed) = process.receive(&mut buffer, true).await.unwrap();
    (ToGateway::decode(&buffer[..length]).unwrap(), passed.is_some())
}

fn events(session: u64) -> FromGateway {
    let told = vec![Told::StatementEnd(told::End::default())];
    FromGateway::Told { session, durable: true, told }
}

async fn session(running: &Arc<Running>) -> Session {
    let (client, _) = link::pair().unwrap();
    running.open(&mut Terms::blank(), client.as_fd()).await.unwrap()
}

#[tokio::test]
async fn a_process_that_says_what_no_gateway_says_is_left_with_all_its_sessions() {
    fn dial(session: u64) -> FromGateway {
        FromGateway::Dial { session, dial: 1 }
    }
    let wrong: [fn(u64) -> Vec<FromGateway>; 4] = [
        |_| vec![FromGateway::Ready],
        |_| vec![FromGateway::Here(77)],
        |session| vec![events(session), events(session)],
        |session| (0..=SAID_MAX).map(|_| dial(session)).collect(),
    ];
    for frames in wrong {
        let (running, process) = pair();
        let mut session = session(&running).await;
        for frame in frames(session.number) {
            say(&process, frame).await;
        }
        let fault = running.attend().await;
        assert!(matches!(fault, Fault::OutOfTurn { .. }), "{fault}");
        assert_eq!(running.end(), 1);
        while session.said().await.is_some() {}
    }
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_process_and_so_does_its_end() {
    let (running, process) = pair();
    process.send(b"\x01\xff", None).await.unwrap();
    assert!(matches!(running.attend().await, Fault::Malformed { .. }));
    let (running, process) = pair();
    process.send(&vec![0; FRAME_MAX + 1], None).await.unwrap();
    assert!(matches!(running.attend().await, Fault::Link { .. }));
    let (running, process) = pair();
    drop(process);
    assert!(matches!(running.attend().await, Fault::Ended));
}

#[tokio::test]
async fn frames_go_to_their_sessions_and_to_no_other() {
    let (running, process) = pair();
    let (mut one, mut other) = (session(&running).await, session(&running).await);
    let attending = tokio::spawn({
        let running = Arc::clone(&running);
        async move { running.attend().await }
    });
    say(&process, events(one.number)).await;
    say(&process, FromGateway::Dial { session: other.number, dial: 7 }).await;
    // One that is over may still have had something to say.
    say(&process, events(u64::MAX)).await;
    assert!(matches!(one.said().await, Some(Said::Told { durable: true, .. })));
    assert!(matches!(other.said().await, Some(Said::Dial(7))));
    // Once it is told that they are kept, it may tell more.
    one.kept(true).await.unwrap();
    say(&process, events(one.number)).await;
    assert!(matches!(one.said().await, Some(Said::Told { .. })));
    other.give_up();
    assert!(matches!(attending.await.unwrap(), Fault::Unruly));
}

#[tokio::test]
async fn terms_go_in_pieces_and_the_client_with_the_last() {
    let (running, process) = pair();
    let (client, _) = link::pair().unwrap();
    let mut terms = Terms::blank();
    terms.authorities = vec![7; 500_000];
    let opening = async { running.open(&mut terms, client.as_fd()).await.unwrap() };
    let receiving = async {
        let mut all = Vec::new();
        loop {
            let (frame, passed) = hear(&process).await;
            let ToGateway::Terms { last, piece, .. } = frame else { panic!("terms") };
            assert_eq!(last, passed);
            all.extend_from_slice(&piece);
            if last {
                return Terms::decode(&all).unwrap();
            }
        }
    };
    let (_session, received) = tokio::join!(opening, receiving);
    assert!(received.authorities == vec![7; 500_000]);
}
