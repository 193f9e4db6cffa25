// Adds to a balance so that a late write is refused: `DATABASE_URL=… fenced-write 42 -100`.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"pawl.dev/recipes/pawl"
)

var errStale = errors.New("refused: the token is stale")

func main() {
	ctx := context.Background()
	account := os.Args[1]
	amount, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	database, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close(ctx)

	// Renewed by hand, that is not at all: the lease is over after its ttl, whatever happens to this process.
	ask := pawl.Ask{Wait: "30s", TTL: "1s", Renew: "manual"}
	var balance int64
	err = pawl.WithLock(ctx, "account/"+account, ask, func(grant pawl.Grant) error {
		// The read shows the token to the row, which remembers the largest: from here on an older holder's write is
		// refused, so none can slip in between this read and its write.
		row := database.QueryRow(ctx,
			"UPDATE account SET fence = $1 WHERE id = $2::text::bigint AND fence <= $1 RETURNING balance",
			grant.FencingToken, account)
		if err := row.Scan(&balance); errors.Is(err, pgx.ErrNoRows) {
			return errStale
		} else if err != nil {
			return err
		}
		think, _ := strconv.ParseFloat(os.Getenv("THINK_SECONDS"), 64)
		time.Sleep(time.Duration(think * float64(time.Second)))
		balance += amount
		// And so does the write. No row, here or above: a later holder was there.
		written, err := database.Exec(ctx,
			"UPDATE account SET balance = $1, fence = $2 WHERE id = $3::text::bigint AND fence <= $2",
			balance, grant.FencingToken, account)
		if err == nil && written.RowsAffected() == 0 {
			err = errStale
		}
		return err
	})
	switch {
	case errors.Is(err, errStale):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	case err != nil && !errors.Is(err, pawl.ErrLost): // The fence has decided about the write already.
		log.Fatal(err)
	}
	fmt.Println("balance", balance)
}
