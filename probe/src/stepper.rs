//! The trap-flag stepper: x86-64's flag for single steps makes the CPU trap after each instruction, and the handler
//! counts them, in this process and without privileges.
//!
//! `rep movs` and the like trap after each turn, so each turn counts as one, as it does under callgrind.

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};

use hotlanes_probe::measured;

/// The instructions that one call of `measured` executed.
#[derive(Clone)]
pub struct Count {
    /// Those of this program.
    pub instructions: u64,
    /// Those of the C library, which picks its memset by the CPU and looks at alignment.
    pub outside: u64,
    /// How often the C library was entered.
    pub outside_calls: u64,
    /// How often each of this program's was executed, by its address at run time, ascending.
    pub by_address: Vec<(usize, u32)>,
}

/// Counts calls of [`measured`]. There is at most one: the handler has one place to count in.
pub struct Stepper {
    text: Range<usize>,
    histogram: Vec<AtomicU32>,
}

/// The CPU's trap flag, in `eflags`.
const TRAP: i64 = 0x100;

// What the handler works on. It runs between two instructions of the thread that set it up, on that thread, so relaxed
// atomics are plain memory that may be a static.
static PHASE: AtomicU8 = AtomicU8::new(IDLE);
/// The first instruction of `measured`, and the stack pointer there.
static ENTRY: AtomicUsize = AtomicUsize::new(0);
static ENTRY_STACK: AtomicUsize = AtomicUsize::new(0);
static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);
static OUTSIDE: AtomicU64 = AtomicU64::new(0);
static OUTSIDE_CALLS: AtomicU64 = AtomicU64::new(0);
static IS_OUTSIDE: AtomicBool = AtomicBool::new(false);
static TEXT_START: AtomicUsize = AtomicUsize::new(0);
static TEXT_LEN: AtomicUsize = AtomicUsize::new(0);
/// `TEXT_LEN` counters, one for each byte of code.
static HISTOGRAM: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

const IDLE: u8 = 0;
const WAITING: u8 = 1;
const COUNTING: u8 = 2;
const DONE: u8 = 3;

/// Called before each instruction while the flag is set. Async-signal-safe: it touches its context and the statics only.
unsafe extern "C" fn on_trap(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO, which `Stepper::new` asks for, the third argument is the interrupted context; no other
    // reference to it exists while the handler runs.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as usize;
    let stack = registers[libc::REG_RSP as usize] as usize;
    match PHASE.load(Relaxed) {
        WAITING if at == ENTRY.load(Relaxed) => {
            ENTRY_STACK.store(stack, Relaxed);
            PHASE.store(COUNTING, Relaxed);
        }
        WAITING => return,
        // The return has popped its address; nothing before it leaves the stack so high.
        COUNTING if stack > ENTRY_STACK.load(Relaxed) => {
            PHASE.store(DONE, Relaxed);
            registers[libc::REG_EFL as usize] &= !TRAP;
            return;
        }
        COUNTING => {}
        _ => {
            registers[libc::REG_EFL as usize] &= !TRAP;
            return;
        }
    }
    let offset = at.wrapping_sub(TEXT_START.load(Relaxed));
    let is_outside = offset >= TEXT_LEN.load(Relaxed);
    let was_outside = IS_OUTSIDE.load(Relaxed);
    IS_OUTSIDE.store(is_outside, Relaxed);
    if is_outside {
        add(&OUTSIDE, 1);
        add(&OUTSIDE_CALLS, u64::from(!was_outside));
    } else {
        add(&INSTRUCTIONS, 1);
        // SAFETY: `Stepper::count` has stored a pointer to TEXT_LEN counters that live until it returns, and the flag
        // is clear by then.
        let counter = unsafe { &*HISTOGRAM.load(Relaxed).add(offset) };
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// Without the lock of an atomic addition: there is one thread.
#[inline(always)]
fn add(to: &AtomicU64, n: u64) {
    to.store(to.load(Relaxed) + n, Relaxed);
}

impl Stepper {
    /// Installs the handler; `text` is this program's code at run time.
    pub fn new(text: Range<usize>) -> std::io::Result<Stepper> {
        // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask, no handler.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` is filled in, and its handler has the signature that SA_SIGINFO asks for.
        if unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, null_mut()) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let histogram = (0..text.len()).map(|_| AtomicU32::new(0)).collect();
        Ok(Stepper { text, histogram })
    }

    /// Counts one run; nothing if the handler did not see `measured` begin and return.
    pub fn count(&mut self, call: &mut dyn FnMut()) -> Option<Count> {
        for counter in &mut self.histogram {
            *counter.get_mut() = 0;
        }
        ENTRY.store(measured as fn(&mut dyn FnMut()) as usize, Relaxed);
        for counter in [&INSTRUCTIONS, &OUTSIDE, &OUTSIDE_CALLS] {
            counter.store(0, Relaxed);
        }
        IS_OUTSIDE.store(false, Relaxed);
        TEXT_START.store(self.text.start, Relaxed);
        TEXT_LEN.store(self.text.len(), Relaxed);
        HISTOGRAM.store(self.histogram.as_ptr().cast_mut(), Relaxed);
        PHASE.store(WAITING, Relaxed);
        set_trap_flag();
        measured(call);
        clear_trap_flag();
        let phase = PHASE.swap(IDLE, Relaxed);
        HISTOGRAM.store(null_mut(), Relaxed);

        let by_address = self.histogram.iter_mut().zip(self.text.clone()).filter_map(|(counter, address)| {
            let times = *counter.get_mut();
            (times > 0).then_some((address, times))
        });
        (phase == DONE).then(|| Count {
            instructions: INSTRUCTIONS.load(Relaxed),
            outside: OUTSIDE.load(Relaxed),
            outside_calls: OUTSIDE_CALLS.load(Relaxed),
            by_address: by_address.collect(),
        })
    }
}

/// From the second instruction after this on, each traps.
#[inline(always)]
fn set_trap_flag() {
    // SAFETY: balanced on the stack, and the handler that `Stepper::new` installed leaves all registers as they are.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") }
}

/// The handler has done so when it saw the return; without it this keeps the rest of the program from crawling.
#[inline(always)]
fn clear_trap_flag() {
    // SAFETY: balanced on the stack, and no code relies on the flag.
    unsafe { asm!("pushfq", "and qword ptr [rsp], -257", "popfq") }
}
