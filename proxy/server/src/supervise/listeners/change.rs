//! What the workers are told of a change of the listeners.

use proxy_core::plan::Endpoint;
use proxy_engine::Command;

#[derive(Debug)]
pub struct Change {
    /// Of each worker.
    pub open: Vec<Vec<Command>>,
    pub revive: Vec<Endpoint>,
    pub retire: Vec<Endpoint>,
}

impl Change {
    /// Each worker's commands: it does `first`, accepts on what is new, and gives up what is old.
    pub fn after(self, first: impl Fn() -> Command) -> Vec<Vec<Command>> {
        let mut commands = self.open;
        for commands in &mut commands {
            commands.insert(0, first());
            commands.extend(self.revive.iter().copied().map(Command::Revive));
            commands.extend(self.retire.iter().copied().map(Command::Retire));
        }
        commands
    }
}
