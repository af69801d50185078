//! The machine stack of compiled code, and its faults.
//!
//! Compiled code takes frames from the stack of its thread, and faults where WebAssembly traps.
//! WasmEdge (0.17) handles the signals of faults on that same stack, so that an endless recursion
//! would kill the process without a text. And it installs its handlers whenever it enters compiled
//! code, and removes them when it leaves it.
//!
//! So a guest runs on a stack of its own, below which lies memory that cannot be accessed. All its
//! faults come to one handler, which runs on another stack: it ends the process if the stack is
//! exhausted, and passes other faults on to the engine's handler. For that, the engine's calls of
//! `sigaction` and `signal` come here.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use libc::{sighandler_t, siginfo_t, ucontext_t};

use super::original::Original;
use super::stack;
use crate::outcome::SIGNAL_BASE;

/// The limit, for messages.
pub(super) const LIMIT: &str = "32 MiB of stack";
/// Size of the stack. At four values a call, that is about the depth that the interpreter allows:
/// a guest must not fail because it was compiled meanwhile.
const STACK_BYTES: usize = 32 << 20;
/// Size of the memory below it that cannot be accessed: more than the frame of a function, which
/// may begin beyond the stack's end.
const GUARD_BYTES: usize = 16 << 20;
/// Size of the stack on which faults are handled.
const HANDLER_BYTES: usize = 64 << 10;

/// The signals of faults.
const FAULTS: [c_int; 3] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];

/// Whether compiled code may run, so that the signals of faults are handled here.
static RUNS: AtomicBool = AtomicBool::new(false);
/// The engine's handlers at present, in the order of `FAULTS`; 0 if it has none.
static HANDLERS: [AtomicUsize; FAULTS.len()] = [const { AtomicUsize::new(0) }; FAULTS.len()];
/// The address at which the memory below the stack begins; 0 without a stack.
static GUARD: AtomicUsize = AtomicUsize::new(0);

/// Runs `guest` on a stack of its own.
///
/// # Errors
/// If there is no memory for the stack.
pub(super) fn on_own_stack<T>(guest: impl FnOnce() -> T) -> io::Result<T> {
    let memory = Memory::map()?;
    GUARD.store(memory.guard(), Ordering::Relaxed);
    let handled = Handled::begin(&memory)?;
    let result = memory.run(guest);
    drop(handled);
    GUARD.store(0, Ordering::Relaxed);
    Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
}

/// Memory with, from its first address on: the guard, the stack, a guard of the handler's stack,
/// and that stack.
struct Memory(*mut c_void);

impl Memory {
    const BYTES: usize = GUARD_BYTES + STACK_BYTES + 2 * HANDLER_BYTES;
    const HANDLER: usize = GUARD_BYTES + STACK_BYTES + HANDLER_BYTES;

    fn map() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), Self::BYTES, libc::PROT_NONE, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = Self(address);
        memory.allow(GUARD_BYTES, STACK_BYTES)?;
        memory.allow(Self::HANDLER, HANDLER_BYTES)?;
        Ok(memory)
    }

    fn allow(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range lies in the mapping, which nothing uses yet.
        check(unsafe { libc::mprotect(self.at(offset), bytes, access) })
    }

    /// Returns the address of a place in it.
    fn at(&self, offset: usize) -> *mut c_void {
        self.0.wrapping_byte_add(offset)
    }

    fn guard(&self) -> usize {
        self.0.addr()
    }

    /// Runs `guest` on the stack, and returns its result or its panic.
    fn run<T>(&self, guest: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
        let (mut guest, mut result) = (Some(guest), None);
        let mut work = || {
            if let Some(guest) = guest.take() {
                // A panic cannot unwind to another stack.
                result = Some(catch_unwind(AssertUnwindSafe(guest)));
            }
        };
        let mut work = Work(&mut work);
        WORK.store((&raw mut work).cast(), Ordering::Relaxed);
        // SAFETY: zeros are a context, which the calls below fill.
        let [mut here, mut there] = [(); 2].map(|()| unsafe { mem::zeroed::<ucontext_t>() });
        // SAFETY: fills the context.
        let made = unsafe { libc::getcontext(&raw mut there) };
        assert_eq!(made, 0, "the context of this thread can be read");
        there.uc_stack.ss_sp = self.at(GUARD_BYTES);
        there.uc_stack.ss_size = STACK_BYTES;
        there.uc_link = &raw mut here;
        // SAFETY: the context was filled; its stack is mapped and unused, and the context that
        // follows it is in this frame, which waits.
        unsafe { libc::makecontext(&raw mut there, on_stack, 0) };
        // SAFETY: both contexts are in this frame, to which the second one returns once.
        let switched = unsafe { libc::swapcontext(&raw mut here, &raw const there) };
        assert_eq!(switched, 0, "a context that was just made can be entered");
        result.expect("the work was done before the stack was left")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nothing runs on the stacks any more.
        unsafe { libc::munmap(self.0, Self::BYTES) };
    }
}

/// The work of another stack.
struct Work<'a>(&'a mut dyn FnMut());

/// A pointer to the `Work` of the new stack, in the frame that waits.
static WORK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_stack() {
    let work = WORK.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: `Memory::run` has just stored it, and waits until this function has returned.
    let Work(work) = unsafe { &mut *work.cast::<Work<'_>>() };
    work();
}

/// While this lives, faults are handled by [`on_fault`].
struct Handled {
    stack: libc::stack_t,
    actions: [libc::sigaction; FAULTS.len()],
}

impl Handled {
    fn begin(memory: &Memory) -> io::Result<Self> {
        let stack = libc::stack_t {
            ss_sp: memory.at(Memory::HANDLER),
            ss_flags: 0,
            ss_size: HANDLER_BYTES,
        };
        // SAFETY: zeros are no stack, and the default action.
        let mut installed = unsafe { mem::zeroed::<Self>() };
        // SAFETY: the stack is mapped and unused until this value is dropped.
        check(unsafe { libc::sigaltstack(&raw const stack, &raw mut installed.stack) })?;
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_fault;
        // SAFETY: as above.
        let mut action = unsafe { mem::zeroed::<libc::sigaction>() };
        action.sa_sigaction = handler as sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for (signal, former) in FAULTS.into_iter().zip(&mut installed.actions) {
            // SAFETY: both actions outlive the call; the handler does what signal-safety(7) allows,
            // or ends the process.
            check(unsafe { original_sigaction()(signal, &raw const action, former) })?;
        }
        RUNS.store(true, Ordering::Relaxed);
        Ok(installed)
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        RUNS.store(false, Ordering::Relaxed);
        for (signal, former) in FAULTS.into_iter().zip(&self.actions) {
            // SAFETY: the action was in effect before.
            unsafe { original_sigaction()(signal, former, ptr::null_mut()) };
        }
        // SAFETY: the stack was in effect before.
        unsafe { libc::sigaltstack(&raw const self.stack, ptr::null_mut()) };
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Handles a fault, on a stack of its own.
extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    type Handler = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
    // SAFETY: the kernel passes the information on a signal.
    let about = unsafe { &*info };
    // SAFETY: that on a fault has its address; of another signal it is not used.
    let address = unsafe { about.si_addr() }.addr();
    let cause = about.si_code;
    let guard = GUARD.load(Ordering::Relaxed);
    // Other processes send codes up to 0.
    let is_fault = cause > 0;
    if is_fault && signal != libc::SIGFPE && (guard..guard + GUARD_BYTES).contains(&address) {
        stack::end_exhausted();
    }
    let handler = index(signal).map_or(0, |index| HANDLERS[index].load(Ordering::Relaxed));
    if !is_fault || handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        let code = u8::try_from(signal).map_or(u8::MAX, |signal| SIGNAL_BASE + signal);
        process_forker::exit(code);
    }
    // SAFETY: the engine installed this function for this signal, with SA_SIGINFO.
    let handler = unsafe { mem::transmute::<usize, Handler>(handler) };
    // SAFETY: the kernel's arguments. The function leaves this frame, which owns nothing, by
    // longjmp.
    unsafe { handler(signal, info, context) };
}

/// Returns the place of a fault's signal in `FAULTS`.
fn index(signal: c_int) -> Option<usize> {
    FAULTS.iter().position(|fault| *fault == signal)
}

/// Returns the place of a signal that is handled here at present.
fn handled(signal: c_int) -> Option<usize> {
    index(signal).filter(|_| RUNS.load(Ordering::Relaxed))
}

/// `sigaction(2)`: notes a handler of the engine instead of installing it, while a compiled guest
/// runs.
#[unsafe(export_name = "sigaction")]
unsafe extern "C" fn sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    former: *mut libc::sigaction,
) -> c_int {
    match handled(signal) {
        Some(index) if !action.is_null() && former.is_null() => {
            // SAFETY: the caller passes an action.
            let handler = unsafe { (*action).sa_sigaction };
            HANDLERS[index].store(handler, Ordering::Relaxed);
            0
        }
        // SAFETY: the caller's arguments.
        _ => unsafe { original_sigaction()(signal, action, former) },
    }
}

/// `signal(2)`: notes that the engine has no handler instead of removing it, while a compiled guest
/// runs.
#[unsafe(export_name = "signal")]
unsafe extern "C" fn signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    type Signal = unsafe extern "C" fn(c_int, sighandler_t) -> sighandler_t;
    static ORIGINAL: Original = Original::new(c"signal");
    if let Some(index) = handled(number) {
        return HANDLERS[index].swap(handler, Ordering::Relaxed);
    }
    // SAFETY: the symbol has this type in every C library.
    let original = unsafe { mem::transmute::<*mut c_void, Signal>(ORIGINAL.get()) };
    // SAFETY: the caller's arguments.
    unsafe { original(number, handler) }
}

type Sigaction = unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;

/// Returns `sigaction` of the C library.
fn original_sigaction() -> Sigaction {
    static ORIGINAL: Original = Original::new(c"sigaction");
    // SAFETY: the symbol has this type in every C library.
    unsafe { mem::transmute::<*mut c_void, Sigaction>(ORIGINAL.get()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wasmedge::original::found_by_the_engine;

    #[test]
    fn engine_installs_and_removes_its_handlers_here() {
        for (name, own) in [
            (c"sigaction", sigaction as *const () as usize),
            (c"signal", signal as *const () as usize),
        ] {
            assert_eq!(
                found_by_the_engine(name),
                own,
                "the executable does not export {name:?}"
            );
        }
    }

    #[test]
    fn work_on_another_stack_returns_its_result_and_its_panic() {
        let _alone = crate::engine::wasmedge::tests::alone();
        let here = std::hint::black_box(0_u8);
        let distance = |there: &u8| {
            (&raw const *there)
                .addr()
                .abs_diff((&raw const here).addr())
        };
        let deep = on_own_stack(|| {
            let there = std::hint::black_box(0_u8);
            distance(&there)
        });
        let distance = deep.unwrap();
        assert!(distance > 1 << 20, "{distance}");
        let panic = std::panic::catch_unwind(|| on_own_stack(|| panic!("of the guest")));
        assert_eq!(
            panic.unwrap_err().downcast_ref::<&str>(),
            Some(&"of the guest")
        );
        assert_eq!(on_own_stack(|| "again").unwrap(), "again");
    }
}
