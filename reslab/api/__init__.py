"""What the commands do, as functions: the public interface's own part."""
