//! The standard streams of a container's process, and its terminal.
//!
//! [`open`] gives two halves: [`Stdio`], the descriptors that become 0, 1 and 2 of the process, and
//! [`Io`], the host's side of them. Hundreds of containers share one runtime: what has to be copied
//! is copied by tasks, and a reader that never reads makes only its own task wait.
//!
//! | stream | without a terminal | with one |
//! |---|---|---|
//! | output | the FIFO or file itself: nothing of ours copies it | a task copies from the terminal into the FIFO |
//! | input | a task copies from the FIFO into a pipe | a task copies from the FIFO into the terminal |
//!
//! | module | what |
//! |---|---|
//! | `streams` | what containerd names, and what of it is served |
//! | `input` | standard input: the FIFO that is held open, and the task that copies |
//! | `output` | standard output and error: opening them, and waiting until they are read |
//! | `terminal` | the pair of a pseudoterminal, and the copying to and from it |
//! | `sides` | both halves put together |

mod streams;
mod input;
mod output;
mod terminal;
mod sides;
#[cfg(test)]
mod tests;

pub use sides::{Io, Stdio, open};
pub use streams::{IoError, Stream, Streams};
