//! Threads whose floating-point environment is not the default one.

use crate::lanes::environment::altered;
use crate::tier::{TierError, active, try_tier, with_tier};
use crate::{Tier, reduce};

/// Bits of the control register, and what they are.
#[cfg(target_arch = "x86_64")]
const MODES: [(u64, &str); 6] = [
    (1 << 15, "flush-to-zero"),
    (1 << 6, "denormals-are-zero"),
    (1 << 15 | 1 << 6, "flush-to-zero and denormals-are-zero"),
    (1 << 13, "rounding towards negative infinity"),
    (2 << 13, "rounding towards positive infinity"),
    (3 << 13, "rounding towards zero"),
];
#[cfg(target_arch = "aarch64")]
const MODES: [(u64, &str); 4] = [
    (1 << 24, "flush-to-zero and denormals-are-zero"),
    (1 << 22, "rounding towards positive infinity"),
    (2 << 22, "rounding towards negative infinity"),
    (3 << 22, "rounding towards zero"),
];

#[cfg(target_arch = "x86_64")]
fn register() -> u64 {
    let mut value = 0u32;
    // SAFETY: stores MXCSR, four bytes, where `value` is.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack)) };
    value.into()
}

#[cfg(target_arch = "x86_64")]
fn set(value: u64) {
    let value = value as u32;
    // SAFETY: a value of MXCSR that was read from it, but for bits that it has. What runs until it is restored does not
    // rely on floating-point arithmetic, but to find this out.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &value, options(nostack)) };
}

#[cfg(target_arch = "aarch64")]
fn register() -> u64 {
    let value: u64;
    // SAFETY: reads FPCR.
    unsafe { core::arch::asm!("mrs {}, fpcr", out(reg) value) };
    value
}

#[cfg(target_arch = "aarch64")]
fn set(value: u64) {
    // SAFETY: a value of FPCR that was read from it, but for bits that it has. What runs until it is restored does not rely
    // on floating-point arithmetic, but to find this out.
    unsafe { core::arch::asm!("msr fpcr, {}", in(reg) value) };
}

/// Runs `f` with these bits set on this thread.
fn with_bits<R>(bits: u64, f: impl FnOnce() -> R) -> R {
    struct Restore(u64);
    impl Drop for Restore {
        fn drop(&mut self) {
            set(self.0);
        }
    }
    let restore = Restore(register());
    set(restore.0 | bits);
    f()
}

fn message<T>(f: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<String> {
    Some(*std::panic::catch_unwind(f).err()?.downcast::<String>().expect("a message"))
}

#[test]
fn another_environment_is_told() {
    assert_eq!(altered(), None);
    for (bits, what) in MODES {
        let (tier, forced) = with_bits(bits, || (try_tier(), with_tier(Tier::Scalar, try_tier)));
        let want = TierError::FloatEnvironment { what };
        assert_eq!(tier, Err(want.clone()));
        // Where it is compiled in.
        assert_eq!(forced.unwrap_or(Err(want.clone())), Err(want.clone()));
        let panic = with_bits(bits, || message(crate::tier));
        assert_eq!(panic, Some(want.to_string()));
        assert!(want.to_string().contains(what), "{want}");
    }
    assert_eq!((altered(), try_tier()), (None, Ok(active().tier())));
}

#[test]
#[cfg(debug_assertions)]
fn a_kernel_in_a_debug_build_tells_it() {
    let x = [1.0; 20];
    for (bits, what) in MODES {
        let told = Some(TierError::FloatEnvironment { what }.to_string());
        assert_eq!(with_bits(bits, || message(|| reduce::sum(&x))), told);
        assert_eq!(with_bits(bits, || message(|| crate::convert::scale(&mut [1.0], 2.0))), told);
        assert_eq!(with_bits(bits, || message(|| crate::convert::u8_to_f32(&[1], 2.0, &mut [0.0]))), told);
    }
    assert_eq!(reduce::sum(&x), 20.0);
}

/// The pieces of a call run on threads whose environment is theirs.
#[test]
#[cfg(all(debug_assertions, feature = "rayon"))]
fn a_piece_on_another_thread_tells_it() {
    let x = vec![1.0; 4 * crate::tuning::REDUCE_PARALLEL];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let (bits, what) = MODES[0];
    let before = pool.broadcast(|_| {
        let before = register();
        set(before | bits);
        before
    });
    let panic = message(std::panic::AssertUnwindSafe(|| pool.install(|| reduce::sum(&x))));
    pool.broadcast(|worker| set(before[worker.index()]));
    assert_eq!(panic, Some(TierError::FloatEnvironment { what }.to_string()));
    assert_eq!(pool.install(|| reduce::sum(&x)), x.len() as f32);
}
