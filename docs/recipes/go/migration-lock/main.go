// Brings something up to date once, however many replicas start: `migration-lock schema ./is-current.sh ./migrate.sh`.
package main

import (
	"context"
	"log"
	"os"
	"os/exec"

	"pawl.dev/recipes/pawl"
)

func main() {
	key, isCurrent, migrate := os.Args[1], os.Args[2], os.Args[3]
	err := pawl.WithLock(context.Background(), key, pawl.Ask{Wait: "1m"}, func(pawl.Grant) error {
		// Look again under the lock: who waited finds the work done.
		if exec.Command(isCurrent).Run() == nil {
			return nil
		}
		return exec.Command(migrate).Run()
	})
	if err != nil {
		log.Fatal(err)
	}
}
