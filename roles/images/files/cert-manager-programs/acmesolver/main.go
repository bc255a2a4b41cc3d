// What answers a challenge of HTTP-01, with the flags that cert-manager starts its pod by.
package main

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/cert-manager/cert-manager/pkg/issuer/acme/http/solver"
)

func main() {
	answers := &solver.HTTP01Solver{}
	flag.IntVar(&answers.ListenPort, "listen-port", 8089, "")
	flag.StringVar(&answers.Domain, "domain", "", "the host that the certificate is for")
	flag.StringVar(&answers.Token, "token", "", "the challenge")
	flag.StringVar(&answers.Key, "key", "", "its answer")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	// It would log the answer.
	go func() { failed <- answers.Listen(logr.Discard()) }()
	select {
	case err := <-failed:
		if !errors.Is(err, http.ErrServerClosed) {
			println(err.Error())
			os.Exit(1)
		}
	case <-ctx.Done():
		last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = answers.Shutdown(last)
	}
}
