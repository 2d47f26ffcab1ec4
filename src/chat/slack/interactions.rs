//! Buttons, modals, shortcuts and slash commands become intents, or are answered at once.
