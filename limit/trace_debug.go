package limit

import (
	"fmt"
	"os"
	"time"

	"github.com/resilience-go/resilience/limit/internal/search"
)

func init() {
	if os.Getenv("LTRACE") != "" {
		search.Trace = func(now int64, f string, a ...any) {
			fmt.Printf("%8.3f %s\n", time.Duration(now).Seconds(), fmt.Sprintf(f, a...))
		}
	}
}
