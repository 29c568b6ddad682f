//! Nothing slips through the table of cases: each public kernel function is in a case, each id stands once, and what is
//! generated from the table is what the table says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hotlanes_cases::{Bits, Counted, Threads, Timed, cases, named};
use syn::visit::Visit;
use syn::{FnArg, ImplItem, Item, Signature, Type, Visibility};

/// Modules that hold no kernels, though their functions take slices.
const NO_KERNELS: [&str; 5] = ["naive", "tuning", "lanes", "tier", "math"];

/// Public functions on slices that are no kernels, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("embedding::EmbeddingIndices::new", "checks ids and copies them"),
    ("sparse::Masked::new", "builds a structure"),
    ("sparse::Plan::new", "builds a structure"),
    ("matmul::Mat::new", "a view"),
    ("matmul::Mat::with_stride", "a view"),
    ("matmul::MatMut::new", "a view"),
    ("matmul::MatMut::with_stride", "a view"),
    ("attention::Heads::new", "a view"),
    ("attention::Heads::interleaved", "a view"),
    ("attention::Heads::with_strides", "a view"),
    ("attention::HeadsMut::new", "a view"),
    ("attention::HeadsMut::interleaved", "a view"),
    ("attention::HeadsMut::with_strides", "a view"),
];

/// Whether a type is a slice, or a struct of slices that kernels take.
fn is_data(ty: &Type) -> bool {
    struct Data(bool);
    impl Visit<'_> for Data {
        fn visit_type_slice(&mut self, _: &syn::TypeSlice) {
            self.0 = true;
        }
        fn visit_path_segment(&mut self, segment: &syn::PathSegment) {
            let name = segment.ident.to_string();
            self.0 |=
                name.ends_with("Tensor") || ["Mat", "MatMut", "Heads", "HeadsMut", "Csr"].contains(&&*name);
            syn::visit::visit_path_segment(self, segment);
        }
    }
    let mut data = Data(false);
    data.visit_type(ty);
    data.0
}

fn is_kernel(signature: &Signature) -> bool {
    signature.inputs.iter().any(|input| matches!(input, FnArg::Typed(arg) if is_data(&arg.ty)))
}

/// The public functions on data of a file, as paths below its public module.
fn functions(module: &str, file: &Path, found: &mut BTreeSet<String>) {
    let text = fs::read_to_string(file).expect("a source file");
    for item in syn::parse_file(&text).expect("Rust").items {
        let public = |v: &Visibility| matches!(v, Visibility::Public(_));
        match item {
            Item::Fn(f) if public(&f.vis) && is_kernel(&f.sig) => {
                found.insert(format!("{module}::{}", f.sig.ident));
            }
            Item::Impl(block) if block.trait_.is_none() => {
                let Type::Path(path) = &*block.self_ty else { continue };
                let name = &path.path.segments.last().expect("a name").ident;
                for item in &block.items {
                    if let ImplItem::Fn(f) = item
                        && public(&f.vis)
                        && is_kernel(&f.sig)
                    {
                        found.insert(format!("{module}::{name}::{}", f.sig.ident));
                    }
                }
            }
            _ => {}
        }
    }
}

/// A file of a module's folder belongs to the public module.
fn all_functions() -> BTreeSet<String> {
    fn folder(module: &str, dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folder(module, &path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                functions(module, &path, found);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&src).expect("src") {
        let path = entry.expect("an entry").path();
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if NO_KERNELS.contains(&&*module) {
            continue;
        }
        if path.is_dir() { folder(&module, &path, &mut found) } else { functions(&module, &path, &mut found) }
    }
    found
}

#[test]
fn every_public_kernel_function_is_in_a_case() {
    let found = all_functions();
    assert!(found.len() > 50, "the sources were read: {found:?}");
    let covered: BTreeSet<String> = cases().flat_map(|c| c.covers).map(|f| (*f).to_owned()).collect();
    let excepted: BTreeSet<String> = EXCEPTIONS.iter().map(|(f, _)| (*f).to_owned()).collect();
    let missing: Vec<_> = found.iter().filter(|f| !covered.contains(*f) && !excepted.contains(*f)).collect();
    assert!(missing.is_empty(), "public functions on data without a case in cases/: {missing:#?}");
    let gone: Vec<_> = excepted.difference(&found).collect();
    assert!(gone.is_empty(), "exceptions that are no functions: {gone:?}");
}

#[test]
fn each_case_is_whole() {
    let mut seen = BTreeMap::new();
    for case in cases() {
        assert!(seen.insert(case.id, ()).is_none(), "{} stands twice", case.id);
        if let Some((id, _)) = case.same_as {
            assert!(named(id).is_some(), "{} is the same as {id}, which is no case", case.id);
        }
        if let Bits::In(id) = case.bits {
            assert!(named(id).is_some(), "{} is in {id}, which is no case", case.id);
        }
        let reasons = [
            matches!(case.counted, Counted::Not(why) if why.is_empty()),
            matches!(case.timed, Timed::Not(why) if why.is_empty()),
            matches!(case.threads, Threads::Never(why) if why.is_empty()),
        ];
        assert!(!reasons.contains(&true), "{} is left out without a reason", case.id);
        // A case that steps through another's kernels, to compare with, covers nothing itself.
        assert!(!case.covers.is_empty() || case.same_as.is_some(), "{} covers no function", case.id);
    }
}

/// A file that follows from the table; `HOTLANES_BLESS=1` writes it.
#[test]
fn the_list_for_callgrind_is_that_of_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/cases.rs");
    let names = |forced: bool| {
        let counted = cases().filter(|c| matches!(c.counted, Counted::At { .. }) && c.forced == forced);
        counted.map(|c| format!("    {}\n", c.id)).collect::<String>()
    };
    let text = format!(
        "// Written by `HOTLANES_BLESS=1 cargo test --test table`: the counted cases; below, those that multiversion chooses.\n\
         cases! {{\n{}    ;\n{}}}\n",
        names(true),
        names(false)
    );
    if std::env::var_os("HOTLANES_BLESS").is_some() {
        fs::write(&file, text).expect("the file can be written");
    } else {
        let known = fs::read_to_string(&file).expect("the list");
        assert!(known == text, "{}: HOTLANES_BLESS=1 cargo test --test table", file.display());
    }
}
