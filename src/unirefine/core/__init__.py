"""What decides results, and every stage may import: an edit here reruns the stages that import it."""
