// Command generate writes the dashboard, the rules and the generated parts of
// docs/observability.md. Run it with `go generate ./metrics`, which runs it in that folder.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/resilience-go/resilience/metrics/internal/ops"
)

func main() {
	if err := write(".."); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func write(root string) error {
	files, err := ops.Files(root)
	if err != nil {
		return err
	}
	for path, content := range files {
		if err := os.WriteFile(filepath.Join(root, path), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
