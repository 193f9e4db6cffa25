// Takes and releases fresh Redlock locks: `redsync host:port ...`, then a number of cycles a line on standard input, each
// answered by `done`.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

func main() {
	var pools []redsyncredis.Pool
	for _, address := range os.Args[1:] {
		pools = append(pools, goredis.NewPool(redis.NewClient(&redis.Options{Addr: address})))
	}
	locks := redsync.New(pools...)
	lines := bufio.NewScanner(os.Stdin)
	for fresh := 0; lines.Scan(); {
		cycles, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil {
			log.Fatal(err)
		}
		for range cycles {
			mutex := locks.NewMutex(fmt.Sprintf("go/%d", fresh), redsync.WithExpiry(10*time.Second), redsync.WithTries(1))
			fresh++
			if err := mutex.Lock(); err != nil {
				log.Fatal(err)
			}
			if ok, err := mutex.Unlock(); !ok || err != nil {
				log.Fatal("unlock: ", ok, err)
			}
		}
		fmt.Println("done")
	}
}
