//! The thread that looks at a folder of components again and again until the server drains.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use espalier_components::ComponentFolder;

use crate::application::Application;
use crate::error::ServerError;

/// How often it looks. A component is in force after two looks.
const INTERVAL: Duration = Duration::from_millis(500);

impl Application {
    /// Deploys and activates every component that is put into a folder or replaced there, from now on until the server
    /// drains.
    ///
    /// # Errors
    /// A folder that cannot be listed, or a thread that cannot be started.
    pub fn watch_components(self: &Arc<Self>, path: PathBuf) -> Result<(), ServerError> {
        let mut folder = ComponentFolder::new(self.deployments().clone(), path)?;
        let application = Arc::clone(self);
        let watch = move || {
            while !application.is_draining() {
                folder.look();
                thread::sleep(INTERVAL);
            }
        };
        thread::Builder::new()
            .name("watched components".to_owned())
            .spawn(watch)
            .map_err(ServerError::Thread)?;
        Ok(())
    }
}
