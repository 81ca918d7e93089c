//! The agent's side of the OCI hook: a container runtime asks, before a container's first
//! instruction, whether the container is governed, and waits for the answer.
//!
//! A line each way over a unix socket that only root may use: `govern PID`, where PID is a process
//! of the container in the agent's own pid namespace; then [`Answer`].

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{cgroup, governor::Governor};

/// Name of the socket in `stateDir`.
pub const SOCKET: &str = "agent.sock";
/// Bytes a question may have.
const QUESTION_BYTES_MAX: usize = 64;
/// How long an asker may take to ask.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// How long a question is kept: no hook waits longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Questions waiting for an answer; further ones wait in the socket.
const QUESTIONS_MAX: usize = 64;

/// The cgroups a question is about: the container's own, and those above it up to the governed
/// root.
pub struct Question {
    /// Ids, the deepest first; empty outside of the governed root.
    cgroups: Vec<u64>,
    reply: oneshot::Sender<Answer>,
}

/// What the agent says; no answer means that it is not known who the container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A policy of its own is in the kernel.
    Governed,
    /// It is not below the governed root.
    Outside,
    /// The process is gone, or the question is none.
    Refused,
}

impl Answer {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Governed => "governed",
            Self::Outside => "outside",
            Self::Refused => "refused",
        }
    }
}

/// Questions that came, and those that wait.
pub struct Hooks {
    questions: mpsc::Receiver<Question>,
    waiting: Vec<Question>,
    socket: PathBuf,
}

impl Hooks {
    /// Listens at `socket`; must run inside of a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(socket: &Path, root: &cgroup::Cgroup) -> io::Result<Self> {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
        let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
        let root = root.path.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The mode of the socket says so too; this also holds where it was changed.
                if stream.peer_cred().is_ok_and(|peer| peer.uid() == 0) {
                    let (sender, root) = (sender.clone(), root.clone());
                    tokio::spawn(async move { ask(stream, &root, &sender).await });
                }
            }
        });
        Ok(Self { questions, waiting: Vec::new(), socket: socket.to_owned() })
    }

    /// The next question; to be given to [`Self::wait`].
    pub async fn asked(&mut self) -> Option<Question> {
        self.questions.recv().await
    }

    /// Keeps a question until [`Self::answer`] can say something.
    pub fn wait(&mut self, question: Question) {
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
        self.waiting.push(question);
    }

    /// Answers what can be answered now.
    pub fn answer(&mut self, governor: &Governor) {
        let governed =
            |question: &mut Question| question.cgroups.iter().any(|id| governor.governs(*id));
        for question in self.waiting.extract_if(.., governed) {
            // Whoever asked may be gone.
            let _ = question.reply.send(Answer::Governed);
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

async fn ask(mut stream: UnixStream, root: &Path, questions: &mpsc::Sender<Question>) {
    let mut line = Vec::new();
    let mut limited = (&mut stream).take(QUESTION_BYTES_MAX as u64);
    if !matches!(timeout(ASK_WITHIN, limited.read_to_end(&mut line)).await, Ok(Ok(_))) {
        return;
    }
    let answer = match question(&line).and_then(|pid| cgroups(pid, root)) {
        None => Some(Answer::Refused),
        Some(cgroups) if cgroups.is_empty() => Some(Answer::Outside),
        Some(cgroups) => {
            let (reply, answered) = oneshot::channel();
            let _ = questions.send(Question { cgroups, reply }).await;
            timeout(ANSWER_WITHIN, answered).await.ok().and_then(Result::ok)
        }
    };
    if let Some(answer) = answer {
        let _ = stream.write_all(answer.word().as_bytes()).await;
    }
}

/// The 17 of `govern 17`.
fn question(line: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("govern ")?.strip_suffix('\n')?.parse().ok()
}

/// The ids of a process's cgroup and of those above it, up to but without the governed root.
fn cgroups(pid: u32, root: &Path) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = cgroup::mount_point().ok()?;
    let mut at = mount.join(path);
    if !at.starts_with(root) {
        return Some(Vec::new());
    }
    let mut ids = Vec::new();
    while at.starts_with(root) && at != root {
        ids.push(fs::metadata(&at).ok()?.ino());
        at = at.parent()?.to_owned();
    }
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::question;

    #[test]
    fn a_question_is_one_word_and_one_number() {
        assert_eq!(question(b"govern 17\n"), Some(17));
        for wrong in ["govern 17", "govern -1\n", "govern 17 18\n", "govern \n", "17\n", ""] {
            assert_eq!(question(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
