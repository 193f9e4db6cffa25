import java.util.Arrays;

/** Runs a command unless it runs already, anywhere: {@code CronSingleton nightly-report ./report.sh}. */
final class CronSingleton {
    public static void main(String[] args) throws Exception {
        int[] code = {0};
        try {
            Pawl.withLock(args[0], "{}", grant -> {
                var command = Arrays.asList(args).subList(1, args.length);
                code[0] = new ProcessBuilder(command).inheritIO().start().waitFor();
            });
        } catch (Pawl.Held held) {
            System.out.println("skipped: another run is under way");
        } catch (Pawl.Lost lost) {
            System.err.println("the lock was lost while the command ran: " + lost.getMessage());
            code[0] = 75;
        }
        System.exit(code[0]);
    }
}
