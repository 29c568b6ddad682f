//! Where this program lies in memory, so that addresses can be told as its symbol table tells them.

use std::ops::Range;

/// The running executable.
#[derive(Clone, Debug)]
pub struct Image {
    /// What the loader added to each address in the file.
    pub bias: usize,
    /// Its machine code, at run time.
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))]
    pub text: Range<usize>,
}

impl Image {
    /// Asks the loader; nothing where it cannot be asked.
    #[cfg(target_os = "linux")]
    pub fn of_this_program() -> Option<Image> {
        use std::ffi::{c_int, c_void};

        unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
            // SAFETY: the loader calls this with its own record, valid for the call.
            let info = unsafe { &*info };
            // SAFETY: the record says that its program headers start here and how many they are.
            let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
            let code = headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0);
            let bias = info.dlpi_addr as usize;
            let starts = code.clone().map(|h| bias + h.p_vaddr as usize);
            let ends = code.map(|h| bias + (h.p_vaddr + h.p_memsz) as usize);
            if let (Some(start), Some(end)) = (starts.min(), ends.max()) {
                // SAFETY: `found` is what `of_this_program` passes below: its own variable, which outlives the call.
                unsafe { *found.cast::<Option<Image>>() = Some(Image { bias, text: start..end }) };
            }
            1 // The program itself comes first; no other is of interest.
        }

        let mut found: Option<Image> = None;
        // SAFETY: `first` has the signature that is asked for, and takes `found` for what it is.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) };
        found
    }

    /// Asks the loader; nothing where it cannot be asked.
    #[cfg(not(target_os = "linux"))]
    pub fn of_this_program() -> Option<Image> {
        None
    }

    /// An address at run time as the file has it.
    pub fn in_file(&self, address: usize) -> usize {
        address - self.bias
    }
}
