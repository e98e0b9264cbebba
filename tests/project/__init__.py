"""The project holds itself to what it says: layers, names, documents, the wheel."""
