"""The migrations, one file each; a migration never changes after its release."""
