"""The fields of a vendor's records, declared in a text: names, or names with their types."""


def words(text: str) -> tuple[str, ...]:
    """Names that are written side by side."""
    return tuple(text.split())


def typed(text: str) -> dict[str, str]:
    """Types by name, of a text such as `Name:text Active:bool`."""
    return dict(field.split(":") for field in text.split())
