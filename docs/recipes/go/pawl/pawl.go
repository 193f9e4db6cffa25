// Package pawl is the whole client: Pawl's API is HTTP, and the standard library speaks it.
package pawl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

var (
	// ErrHeld says that another holds the key.
	ErrHeld = errors.New("held by another")
	// ErrLost says that the lock was lost while the work was done: another may have begun.
	ErrLost = errors.New("the lock was lost")
)

// Ask is what an acquire may say; all of it is optional.
type Ask struct {
	TTL   string `json:"ttl,omitempty"`
	Wait  string `json:"wait,omitempty"`
	Renew string `json:"renew,omitempty"`
}

// Grant is what an acquire answers.
type Grant struct {
	LeaseID      string `json:"leaseId"`
	FencingToken int64  `json:"fencingToken"`
	Detail       string `json:"detail"`
}

// WithLock holds key while work runs. It returns ErrLost after it if the lock did not last.
func WithLock(ctx context.Context, key string, ask Ask, work func(Grant) error) error {
	var grant Grant
	status, err := call(ctx, http.MethodPost, "/v1/locks/"+policy()+"/"+key, ask, &grant)
	switch {
	case err != nil:
		return err
	case status == http.StatusLocked:
		return ErrHeld
	case status != http.StatusOK:
		return errors.New(grant.Detail)
	}
	failed := work(grant)
	status, err = call(ctx, http.MethodDelete, "/v1/leases/"+grant.LeaseID, nil, nil)
	if status == http.StatusGone {
		err = ErrLost
	}
	return errors.Join(failed, err)
}

// Lead calls on with "granted" and "lost" as they come, for as long as the stream lives.
func Lead(ctx context.Context, key string, on func(event string)) error {
	request, err := newRequest(ctx, http.MethodPost, "/v1/locks/"+policy()+"/"+key, Ask{Wait: "1m"})
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if event, found := strings.CutPrefix(lines.Text(), "event: "); found {
			on(event)
		}
	}
	return lines.Err()
}

func call(ctx context.Context, method, path string, body, answer any) (int, error) {
	request, err := newRequest(ctx, method, path, body)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if answer != nil {
		if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
			return 0, fmt.Errorf("status %d: %w", response.StatusCode, err)
		}
	}
	return response.StatusCode, nil
}

func newRequest(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, env("PAWL_URL", "http://127.0.0.1:4600")+path, &text)
	if err == nil && body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, err
}

func policy() string { return env("PAWL_POLICY", "-") }

func env(name, otherwise string) string {
	if value, found := os.LookupEnv(name); found {
		return value
	}
	return otherwise
}
