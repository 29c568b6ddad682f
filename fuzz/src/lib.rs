//! Shared by the fuzz targets: scratch directories, and checkpoints with a few places damaged.
#![forbid(unsafe_code)]

pub mod damage;

use std::path::Path;

use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session::{self, About};
use hotlanes_train::shell::trainer::{Recipe, Trainer};
use hotlanes_train::store::checkpoint::{self, Checkpoints, Saved};
use hotlanes_train::store::files::System;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An empty directory, in memory where there is such a file system.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a scratch directory")
}

/// Saves a trainer's state as the session does.
pub fn save<R: Recipe>(directory: &Path, recipe: &R, hash: &str, trainer: &impl Trainer) {
    let about = json!({ "recipe": recipe, "data": hash, "goal": 10, "model": trainer.model() });
    serde_json::from_value::<About<R>>(about.clone()).expect("the session's fields");
    let snapshot = serde_json::to_value(trainer.snapshot()).expect("numbers and names");
    let tensors = trainer.tensors();
    let saved = Saved { step: trainer.position(), sha256: tensors.digest(&snapshot), log: None, snapshot };
    let mut all = Checkpoints::new(&System, directory, R::KIND, R::KIND, 1);
    all.save(about, saved, &tensors).expect("a small checkpoint");
}

/// Restores a damaged checkpoint; what is accepted must come back the same after it is saved, and must train on.
pub fn restore<R: Recipe>(
    directory: &Path,
    recipe: &R,
    data: &R::Data,
    advance: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let load = |directory: &Path| -> Result<_, Box<dyn std::error::Error>> {
        let (index, saved, stored) = checkpoint::load(directory, R::KIND, None)?;
        let about = session::about::<R>(directory, &index);
        let mut trainer = recipe.trainer(data, &Alone)?;
        session::restore(&mut trainer, directory, R::KIND, &saved, &stored)?;
        about?;
        Ok(trainer)
    };
    let mut first = load(directory)?;
    let digest = session::digest(&first);
    let again = scratch();
    save(again.path(), recipe, &R::identify(data).1, &first);
    let second = load(again.path()).expect("it was accepted, and must be readable once saved");
    assert_eq!(session::digest(&second), digest, "saved and read back");
    if advance {
        // It may end with an error, but not with a panic.
        let _ = first.advance();
    }
    Ok(())
}

/// A checkpoint in parts: the index, and the tensors.
pub fn parts(directory: &Path, kind: &str) -> (Value, Vec<u8>) {
    let index = std::fs::read(checkpoint::index_path(directory, kind)).expect("just saved");
    let index: Value = serde_json::from_slice(&index).expect("just saved");
    let step = index["saved"][0]["step"].as_u64().expect("just saved");
    let tensors = std::fs::read(checkpoint::tensors_path(directory, kind, step)).expect("just saved");
    (index, tensors)
}
