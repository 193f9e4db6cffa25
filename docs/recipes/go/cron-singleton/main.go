// Runs a command unless it runs already, anywhere: `cron-singleton nightly-report ./report.sh`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"pawl.dev/recipes/pawl"
)

func main() {
	err := pawl.WithLock(context.Background(), os.Args[1], pawl.Ask{}, func(pawl.Grant) error {
		command := exec.Command(os.Args[2], os.Args[3:]...)
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		return command.Run()
	})
	switch {
	case errors.Is(err, pawl.ErrHeld):
		fmt.Println("skipped: another run is under way")
	case errors.Is(err, pawl.ErrLost):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(75)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
