/** Brings something up to date once, however many replicas start: {@code MigrationLock schema ./is-current.sh ./migrate.sh}. */
final class MigrationLock {
    public static void main(String[] args) throws Exception {
        Pawl.withLock(args[0], "{\"wait\":\"1m\"}", grant -> {
            // Look again under the lock: who waited finds the work done.
            if (run(args[1]) != 0 && run(args[2]) != 0) {
                throw new IllegalStateException("the migration failed");
            }
        });
    }

    private static int run(String command) throws Exception {
        return new ProcessBuilder(command).inheritIO().start().waitFor();
    }
}
