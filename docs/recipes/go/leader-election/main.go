// Says when this process leads and when it no longer does: `leader-election scheduler`.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"pawl.dev/recipes/pawl"
)

func main() {
	for {
		// The stream is the lease: when this process dies, the connection closes and the next candidate leads at once.
		err := pawl.Lead(context.Background(), os.Args[1], func(event string) {
			switch event {
			case "granted":
				fmt.Println("leading")
			case "lost":
				fmt.Println("deposed")
			}
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "no stream:", err)
		}
		time.Sleep(time.Second)
	}
}
