//! The kernels in the sources, so that one without a case is seen even if nothing instantiates it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

/// Every `impl Kernel for` and every multiversion loop under `src`, by its path; without the plain loops that the
/// kernels are measured against, and without tests.
pub fn kernels(src: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    visit(src, "hotlanes", &mut found)?;
    Ok(found)
}

fn visit(dir: &Path, module: &str, found: &mut BTreeSet<String>) -> Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let module = if name == "lib" { module.to_owned() } else { format!("{module}::{name}") };
        if name == "tests" || module == "hotlanes::naive" {
            continue;
        }
        if path.is_dir() {
            visit(&path, &module, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            found.extend(names(&text).into_iter().map(|n| format!("{module}::{n}")));
        }
    }
    Ok(())
}

/// The kernels of one file.
fn names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut versions = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("//") {
            continue;
        }
        if let Some((_, rest)) = line.split_once("Kernel for ")
            && line.starts_with("impl")
        {
            found.push(identifier(rest));
        }
        versions |= line.starts_with("#[multiversion");
        if let Some((_, rest)) = line.split_once("fn ")
            && std::mem::take(&mut versions)
        {
            found.push(identifier(rest));
        }
    }
    found
}

/// The last part of the path that a text begins with.
fn identifier(text: &str) -> String {
    let path: String = text.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
    path.rsplit("::").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impls_and_versions_are_found() {
        let text = "
            // impl Kernel for Comment {}
            impl<I: Index> Kernel for MatMul<'_, I> {
                fn run<L: Lanes>(self, l: L) {}
            }
            impl Kernel for Run<'_, '_> {}
            #[multiversion(targets(
                \"x86_64+avx2\",
            ))]
            fn scale_loop(x: &mut [f32]) {}
            fn other() {}";
        assert_eq!(names(text), ["MatMul", "Run", "scale_loop"]);
    }

    #[test]
    fn this_repository_has_the_kernels_it_is_known_for() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
        let found = kernels(&src).unwrap();
        for name in ["tensors::Run", "norm::forward::Forward", "sparse::batch::MatMul", "convert::scale_loop"]
        {
            assert!(found.contains(&format!("hotlanes::{name}")), "{name} not in {found:?}");
        }
        assert!(found.iter().all(|n| !n.contains("naive") && !n.contains("tests")), "{found:?}");
    }
}
