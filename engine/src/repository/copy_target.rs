//! The repository that this one is copied to unless it is said.

use std::path::Path;

use super::Repository;
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{CopyTarget, MAX_SEALED_SIZE, open, seal};

impl Repository {
    /// Remembers where this repository is copied to, instead of what was remembered before.
    ///
    /// # Errors
    /// [`Error::NotStorable`] if the place has no name in UTF-8.
    pub fn remember_copy_target(&self, target: &Self) -> Result<()> {
        let directory = target.directory();
        let path = directory.as_deref().and_then(Path::to_str).ok_or_else(|| Error::NotStorable {
            object: "target of copies",
            reason: format!("{} is not named in UTF-8", target.location()),
        })?;
        let remembered = CopyTarget { path: path.to_owned(), repository: target.header().id };
        self.backend().put(&Key::copy_target(), &seal(&remembered)?)
    }

    /// Opens the repository that was remembered; `None` if none was.
    ///
    /// # Errors
    /// [`Error::OtherRepository`] if another one lies there now.
    pub fn open_copy_target(&self, cache_bytes: u64) -> Result<Option<Self>> {
        let Some(remembered) = self.copy_target()? else { return Ok(None) };
        let target = Self::open(Path::new(&remembered.path), cache_bytes)?;
        if target.header().id != remembered.repository {
            return Err(Error::OtherRepository {
                path: remembered.path,
                found: target.header().id.to_string(),
                expected: remembered.repository.to_string(),
            });
        }
        Ok(Some(target))
    }

    pub(crate) fn copy_target(&self) -> Result<Option<CopyTarget>> {
        match self.backend().read(&Key::copy_target(), MAX_SEALED_SIZE) {
            Err(error) if error.is_not_found() => Ok(None),
            bytes => open("the remembered target of copies", &bytes?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::CreateOptions;

    #[test]
    fn another_repository_in_the_place_of_the_remembered_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let create =
            |name: &str| Repository::create(&directory.path().join(name), &CreateOptions::default()).unwrap();
        let (source, first, second) = (create("source"), create("first"), create("second"));
        assert!(source.open_copy_target(0).unwrap().is_none());
        for target in [&first, &second] {
            source.remember_copy_target(target).unwrap();
            assert_eq!(source.open_copy_target(0).unwrap().unwrap().header().id, target.header().id);
        }
        std::fs::rename(directory.path().join("second"), directory.path().join("third")).unwrap();
        assert!(matches!(source.open_copy_target(0), Err(Error::NotARepository { .. })));
        std::fs::rename(directory.path().join("first"), directory.path().join("second")).unwrap();
        assert!(matches!(source.open_copy_target(0), Err(Error::OtherRepository { .. })));
    }
}
