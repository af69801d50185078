//! The standard streams of a container's process, and its terminal.
//!
//! [`open`] returns two halves: [`Stdio`], the descriptors that become 0, 1 and 2 of the process,
//! and [`Io`], the host's side of them. Hundreds of containers share one runtime, so tasks do all
//! copying, and a reader that never reads blocks only its own task.
//!
//! | stream | without a terminal | with one |
//! |---|---|---|
//! | output | the FIFO or file itself: nothing is copied | a task copies from the terminal into the FIFO |
//! | input | a task copies from the FIFO into a pipe | a task copies from the FIFO into the terminal |
//!
//! | module | contents |
//! |---|---|
//! | `streams` | the names that containerd gives, and the supported kinds |
//! | `input` | standard input: the FIFO, kept open, and the copying task |
//! | `output` | standard output and error: opening, and waiting until the output is read |
//! | `terminal` | a pseudoterminal, and copying to and from it |
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
